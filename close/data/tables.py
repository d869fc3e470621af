"""Tables as text: CSV with any of the usual delimiters, tab-separated files, Flickr's token files. One reader for all uses."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from close.data.columns import Columns, by_caption, check_flags, is_known
from close.data.text import FIRST_LINES, NAMED, TextFile, token
from close.errors import DataError, listed

__all__ = ["SUFFIXES", "Table"]

SUFFIXES = (".csv", ".tsv", ".token")
Values = dict[str, Any]
Given = Mapping[str, str | int]

_TOKEN_NAMES = ("id", "image", "group", "caption")
_LITERAL = ("\t", "|")
_GLUED = re.compile(r"(\d+)\s+(\S.*)")
_FILE_NAME = re.compile(r"\.\w{1,5}\s*$")
_EXCEL = re.compile(r"sep=.?", re.IGNORECASE)
"""Excel's own first line, which says what parts the cells."""
_USUAL = {"source", "caption", "text", "image", "id", "group", "target"}


class Table:
    """A table's layout, found from its first lines, and its records by it.

    Args:
        file: the text. given: key to a column's name, or its place from 0, which a table without a header needs.
    Attributes:
        columns: which is which. delimiter: between cells; "" in a token file. notes: what is to be told of it.
    Raises:
        DataError: no column of captions, no such column, or no header. RecipeError: an unknown key in `given`.
    """

    def __init__(self, file: TextFile, given: Given | None = None) -> None:
        self.file, self.where, self.notes = file, f"{file.path}:1", list[str]()
        first = [line for line in islice(file.lines(""), FIRST_LINES) if line.strip()]
        if not first:
            raise DataError(f"{file.path}: the file is empty, expected one row a line")
        file.check(first[0], self.where)
        self.above = bool(_EXCEL.fullmatch(first[0].strip()) and first[1:])  # lines above the table
        first = first[self.above :]
        usual = "\t" if file.path.suffix.lower() == ".tsv" else ","
        self.delimiter = "" if not given and all(map(token, first)) else _delimiter(first, given, usual)
        names: list[str] = list(_TOKEN_NAMES)
        self.header = False
        if self.delimiter:
            names = _without_empty([cell.strip() for cell in _split(first[0], self.delimiter, strict=False)])
            pair = [] if given else _web_pair([line.strip("\r\n").split("\t") for line in first])
            self.header = not pair and self._is_header(names, first, given)
            names = names if self.header else pair or [str(place) for place in range(len(names))]
        self.columns = Columns(names, given, self.where)
        if self.delimiter not in ("", usual):
            self.notes.append(f"{file.path}: cells are parted by {self.delimiter!r}")
        if self.delimiter and not self.header:
            self.notes.append(f"{file.path}: no header; the first line is a row")
        if self.delimiter and not {name.lower() for name in names} <= _USUAL:
            self.notes.append(f"{file.path}: {self.columns.about()}")

    def _is_header(self, names: list[str], first: Sequence[str], given: Given | None) -> bool:
        """Whether the first line names the columns."""
        if any(map(is_known, names)) or any(isinstance(column, str) for column in (given or {}).values()):
            return True
        if given:  # by place: a header has no name of a file where the next line has one
            rows = [
                [bool(_FILE_NAME.search(cell)) for cell in _split(line, self.delimiter, strict=False)]
                for line in first[:2]
            ]
            return len(rows) == 2 and any(below and not above for above, below in zip(*rows, strict=False))
        if not NAMED.match(first[0]) and "://" not in first[0]:
            return True
        raise DataError(
            f"{self.where}: no header, but {first[0].strip()[:80]!r}; say the columns' places, from 0: "
            "close convert csv IN OUT --columns caption=1,image=0, in a recipe data.columns: {caption: 1, image: 0}"
        )

    def records(self) -> Iterator[tuple[int, int, str]]:
        """Yield (number of its first line, position in bytes, text) of each record behind the header."""
        position, above = self.file.start, self.above + self.header
        lines = enumerate(self.file.lines(""), 1)
        for number, text in lines if self.delimiter in ("", *_LITERAL) else self._quoted(lines):
            if text.strip() and not above:
                yield number, position, text
            above -= bool(above and text.strip())
            position += self.file.size(text)

    def _quoted(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """Lines that a quoted cell holds together as one record."""
        taken: list[tuple[int, str]] = []

        def feed() -> Iterator[str]:
            for pair in lines:
                taken.append(pair)
                yield pair[1]

        reader = csv.reader(feed(), delimiter=self.delimiter, strict=True)
        while True:
            taken.clear()
            with suppress(csv.Error):  # told where the record is looked at
                next(reader, None)
            if not taken:
                return
            yield taken[0][0], "".join(line for _, line in taken)

    def rows(self, text: str, where: str, default_id: str, *, split: bool = True) -> list[Values]:
        """The rows of a record, several where it has several captions and `split` is set.

        Raises:
            DataError: not in the file's encoding, badly quoted, or of another number of cells than the header.
            Skip: the data set itself leaves it out.
        """
        self.file.check(text, where)
        names = self.columns.names
        cells = self._cells(text, where)
        record = dict(zip(names, cells, strict=True))
        check_flags(record)
        return by_caption(self.columns.values(record, where), default_id, split=split)

    def _cells(self, text: str, where: str) -> list[str]:
        if not self.delimiter:
            if (found := token(text)) is None:
                raise DataError(f"{where}: expected the name of a picture, a tab and a caption, as in the lines before")
            name, number, caption = found
            return [name + number if number else "", name, name, caption]
        if "\n" in (inner := text.strip()) and any(map(NAMED.match, inner.splitlines()[1:])):
            raise DataError(f"{where}: not CSV (a quote that is opened here swallows the rows behind it)")
        names = self.columns.names
        try:
            cells = _split(text, self.delimiter)
        except csv.Error as error:
            raise DataError(f"{where}: not CSV ({error})") from None
        cells = cells[: len(names)] + _without_empty(cells[len(names) :])
        if len(cells) == len(names) - 1 > 1 and "source" in self.columns.keys.get(names[-1], ()):
            # in Flickr30k's results.csv a number and its caption share a cell
            glued = _GLUED.fullmatch(cells[-1].strip())
            cells[-1:] = glued.groups() if glued else cells[-1:]
        if len(cells) != len(names):
            hint = f"; a text with {self.delimiter!r} in it needs quotes" if len(cells) > len(names) else ""
            raise DataError(f"{where}: {len(cells)} columns, but the header has {len(names)}: {listed(names)}{hint}")
        return cells


def _split(text: str, delimiter: str, *, strict: bool = True) -> list[str]:
    """The cells of a record. Quotes hold lines and delimiters together in CSV; behind tabs and bars they may be of the text."""
    if delimiter in _LITERAL:
        return [_unquoted(cell) for cell in text.rstrip("\r\n").split(delimiter)]
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict), [])


def _web_pair(rows: Sequence[Sequence[str]]) -> list[str]:
    """The columns of a table without a header, each line a caption and an address: Conceptual Captions' files."""
    for names in (["caption", "url"], ["url", "caption"]):
        places = [row[names.index("url")].strip() if len(row) == 2 else "" for row in rows]
        if all(re.fullmatch(r"https?://\S+", place) for place in places):
            return names
    return []


def _unquoted(cell: str) -> str:
    inner = cell.strip()[1:-1]
    quoted = len(cell.strip()) > 1 and cell.strip()[0] == cell.strip()[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else cell


def _without_empty(cells: list[str]) -> list[str]:
    """Without the empty cells at the end, which a delimiter there leaves."""
    while cells and not cells[-1].strip():
        cells = cells[:-1]
    return cells


def _delimiter(first: Sequence[str], given: Given | None, usual: str) -> str:
    """What parts the header into the most names that are known; what parts all lines alike; the usual one where nothing does."""
    wanted = {str(column).strip().lower() for column in (given or {}).values()}

    def fits(delimiter: str) -> tuple[int, float, bool]:
        try:
            names = [name.strip().lower() for name in _split(first[0], delimiter, strict=False)]
        except csv.Error:
            return 0, 0.0, False
        known = sum(is_known(name) or name in wanted for name in names)
        counts = [line.count(delimiter) for line in first]
        steady = sum(count == counts[0] for count in counts) / len(counts) if counts[0] else 0.0
        return known, steady, counts[0] > 0 and delimiter != ","

    return max(usual + ",\t;|", key=fits)
