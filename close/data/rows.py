"""Rows: what every task reads, checked one by one, from JSONL, plain text or tables, without holding the file in memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, overload

import numpy as np

from close.data.columns import Skip
from close.data.tables import SUFFIXES, Table
from close.data.text import TextFile, check_plain, plain_caption, plain_lines
from close.errors import DataError, NoTextError, shown
from close.io.files import below, check_file
from close.registry import unknown_name

__all__ = [
    "LEFT_OUT",
    "Modality",
    "PartName",
    "Row",
    "RowFile",
    "by_one_name",
    "evenly",
    "named_images",
    "named_sources",
    "parse_json",
    "parse_row",
]

Modality = Literal["text", "image"]
"""Which tower a vector came from; "image" stands for whatever the encoder's second tower takes."""

_TEXTS = ("source", "target", "references", "answers", "image")
_STRINGS = ("id", "context", "group", "label", "task")
_COMMON = ("caption", "captions", "text", "sentence", "sentences")
"""What other formats call a text."""
_KEYS = (*_TEXTS, *_STRINGS, "meta")
_SENSES = ("audio", "video")
"""Other names of `image`, of which a row has one."""
_PLACES = 16
"""Bits of an index entry for a row's place in its record; the others are for the line number."""
LEFT_OUT = "%s: %d rows are left out: %s"
"""What is told of a table: its path, how many, why."""
_log = logging.getLogger(__name__)
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Row:
    """One example as it lies in a file.

    Attributes:
        id: name of the row; its line number where the file gives none.
        source: text(s) for the contrastive encoder; the vectors of several are averaged, or stay apart (`several` of a recipe).
        context: text for the language model's input.
        target: text(s) to produce, each trained on.
        image: file(s) of the second modality (in a file also `audio` or `video`), resolved against the data file's folder;
            several are views of one thing, or frames, and become what several sources do. Here it is the first, `images` are all.
        group: rows of one image share it; without it, it is what the image is called.
        references, answers, label: what evaluation compares with.
        task: for files that mix tasks.
        meta: anything else.
    """

    id: str
    source: tuple[str, ...] = ()
    context: str = ""
    target: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    group: str | None = None
    references: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    label: str | None = None
    task: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image(self) -> Path | None:
        """Its file of the second modality; of several, the first."""
        return self.images[0] if self.images else None


class PartName(str):
    """The id of one of several sources or images of a row, `id#0`, `id#1`, …, and no id that a row itself may have."""

    __slots__ = ()


def named_sources(row: Row) -> list[tuple[str, str]]:
    """(id, text) of each source of a row, as embedding tables name them: its id, or `id#0`, `id#1`, … of several."""
    return _named(row.id, row.source)


def evenly(count: int, most: int) -> list[int]:
    """At most so many places of `count`, spread over all."""
    kept = min(count, most)
    return [place * count // kept for place in range(kept)]


def named_images(row: Row) -> list[tuple[str, Path]]:
    """(id, file) of each image of a row, likewise."""
    return _named(row.id, row.images)


def _named(name: str, parts: Sequence[Part]) -> list[tuple[str, Part]]:
    if len(parts) == 1:
        return [(name, parts[0])]
    return [(PartName(f"{name}#{number}"), part) for number, part in enumerate(parts)]


def parse_row(values: Any, where: str, *, folder: Path, default_id: str) -> Row:
    """A row from a decoded JSON object.

    Args:
        where: file and line, for messages.
        folder: what a relative `image` is relative to.
    Raises:
        DataError: a key is unknown, missing or of the wrong type, or a text is empty.
    """
    if not isinstance(values, dict):
        raise DataError(f"{where}: expected a JSON object, not {type(values).__name__}")
    values = by_one_name(values, where)
    for key in values:
        if key not in _KEYS:
            meant = "; a text is 'source' here, and what is to be said 'target'" if key in _COMMON else ""
            raise DataError(
                f"{where}: {unknown_name('key', str(key)[:100], _KEYS)} (own data goes under 'meta'){meant}"
            )
    if values.get("source") is None and values.get("image") is None:
        if "source" in values:
            raise NoTextError(f"{where}: 'source' is null")
        raise DataError(f"{where}: missing key 'source' (or 'image'), e.g. {{\"source\": \"a dog on a beach\"}}")
    checked: dict[str, Any] = {"id": default_id}
    checked |= {key: _texts(values[key], key, where) for key in _TEXTS if values.get(key) is not None}
    # an empty text, as pandas writes what is missing, says nothing
    checked |= {key: _string(values[key], key, where) for key in _STRINGS if values.get(key) not in (None, "")}
    checked["meta"] = values.get("meta") or {}
    if not isinstance(checked["meta"], dict):
        raise DataError(f"{where}: 'meta' is {shown(checked['meta'])}, expected an object")
    images = checked.pop("image", ())
    if images:
        checked.setdefault("group", ", ".join(images))
    checked["images"] = tuple(folder / name for name in images)
    return Row(**checked)


def by_one_name(values: dict[str, Any], where: str) -> dict[str, Any]:
    """A row's values, with what is seen or heard under `image`, whatever its name in the file.

    Raises:
        DataError: it has two such names.
    """
    given = [key for key in ("image", *_SENSES) if values.get(key) is not None]
    if len(given) > 1:
        raise DataError(
            f"{where}: {given[0]!r} and {given[1]!r}: both name what is seen or heard; expected one of them"
        )
    if given in ([], ["image"]):
        return values
    return {
        "image" if key == given[0] else key: value
        for key, value in values.items()
        if key not in ("image", *_SENSES) or key == given[0]
    }


def parse_json(text: str, where: str) -> Any:
    """One line of JSON.

    Raises:
        DataError: it is none; `where` is put before.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cut = "" if text.endswith("\n") else "; the file is cut off here"
        raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno}){cut}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in thousands
        raise DataError(f"{where}: JSON beyond all measure ({error})") from None


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise DataError(f"{where}: {key!r} is an empty list, expected at least one text")
    for item in items:
        if not isinstance(item, str):
            raise DataError(f"{where}: {key!r} is {shown(item)}, expected a string or a list of strings")
        if not item.strip():
            raise NoTextError(f"{where}: {key!r} is an empty text")
        _check_unicode(item, key, where)
    return tuple(items)


def _string(value: Any, key: str, where: str) -> str:
    if key in ("id", "group") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{where}: {key!r} is {shown(value)}, expected a string")
    _check_unicode(value, key, where)
    return value


def _check_unicode(text: str, key: str, where: str) -> None:
    """JSON can spell halves of a character (`\\ud83d`), which no tokenizer or file takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {key!r} holds half a character at position {error.start}: {shown(text)}") from None


class RowFile(Sequence[Row]):
    """The rows of one file: checked once from start to end, then read by position.

    The file is indexed by byte offsets (24 bytes a row in memory); rows are parsed when asked for. Forked processes and threads
    may read at once: no read moves a position that others share.

    Args:
        path: `.jsonl`, `.txt` (one caption a line), or a table: `.csv`, `.tsv`, `.token`.
        columns: of a table, key to a column's name or place from 0, where the names do not say it.
        lines: the JSONL that is read in place of `path`, whose images are relative to the folder of `path`.
    Attributes:
        stays_open: whether the file is kept open from the first row that is read on; else each row opens it for itself.
    Raises:
        MissingError: no such file.
        DataError: the file is empty, or what is wrong at which line.
    """

    stays_open = True

    def __init__(
        self, path: str | Path, columns: Mapping[str, str | int] | None = None, *, lines: Path | None = None
    ) -> None:
        self.path = Path(path)
        self._lines = lines or self.path
        self.kind = self._lines.suffix.lower().lstrip(".")
        if f".{self.kind}" not in (".jsonl", ".txt", *SUFFIXES):
            check_file(self.path)
            raise DataError(
                f"{self.path}: rows are read from .jsonl, .txt, {', '.join(SUFFIXES)} or .parquet;"
                " `close convert` makes JSONL of other formats"
            )
        self._file = TextFile(self._lines)
        self._handle: BinaryIO | None = None
        self._table = Table(self._file, columns) if f".{self.kind}" in SUFFIXES else None
        if columns and self._table is None:
            _log.warning(
                "%s: columns are of tables, and lines of %s say themselves what they hold", self.path, self.kind
            )
        if self._table:
            self.kind = "csv"
        elif self.kind == "txt":
            check_plain(self._file)
        self._hashes = array("q")
        self._offsets = np.frombuffer(self._index(), dtype=np.int64)
        if not len(self):
            what = "there is no row under its header" if self._table else "the file is empty, expected one row a line"
            raise DataError(f"{self.path}: {what}")
        self._check_ids()
        del self._hashes
        with self._lines.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256")
        if self._table:  # the same file has other texts where its columns are read otherwise
            digest.update(self._table.columns.layout.encode())
        self.sha256 = digest.hexdigest()

    def _check_ids(self) -> None:
        """Refuse two rows of one id; hashes, 8 bytes a row, stand for the ids."""
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        if (counts > 1).any():
            row = self[int(first[counts > 1].min())]
            raise DataError(f"{self.path}: two rows have the id {shown(row.id)}; ids are unique in a file")

    def _index(self) -> bytes:
        """Start, end, and line number with place in its record, of each row."""
        offsets, skipped = array("q"), Counter[str]()
        read = self._table.records if self._table else partial(plain_lines, self._file, captions=self.kind == "txt")
        for number, position, text in read():
            try:
                rows = self._parse(text, number)
            except NoTextError as error:
                skipping = f"close convert {self.kind} IN OUT --skip-errors leaves such rows out"
                raise NoTextError(f"{error}; {skipping}") from None
            except Skip as skip:
                skipped[str(skip)] += 1
                continue
            for place, row in enumerate(rows):
                self._hashes.append(hash(row.id))
                offsets.extend((position, position + self._file.size(text), number << _PLACES | place))
        for note in self._table.notes if self._table else ():
            _log.warning("%s", note)
        for reason, count in skipped.items():
            _log.warning(LEFT_OUT, self.path, count, reason)
        return offsets.tobytes()

    def _parse(self, text: str, number: int) -> list[Row]:
        where, folder = f"{self.path}:{number}", self.path.parent
        if self._table:
            found = self._table.rows(text, where, str(number))
            for name in (values["image"] for values in found if "image" in values):  # a table's cell is one name
                if below(folder, name) is None:
                    raise DataError(
                        f"{where}: image {shown(name)} is not below {folder.absolute()}; "
                        "close convert csv IN OUT --images FOLDER says which folder they are in"
                    )
            return [parse_row(values, where, folder=folder, default_id=str(number)) for values in found]
        self._file.check(text, where)
        if self.kind == "txt":
            return [Row(id=str(number), source=(plain_caption(text),))]
        return [parse_row(parse_json(text, where), where, folder=folder, default_id=str(number))]

    def __len__(self) -> int:
        return len(self._offsets) // 3

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._row(index % len(self))

    def _row(self, index: int) -> Row:
        place = 3 * index
        start, end, number = self._offsets[place : place + 3].tolist()
        return self._parse(self._file.decode(self._read(start, end)), number >> _PLACES)[number & ((1 << _PLACES) - 1)]

    def _read(self, start: int, end: int) -> bytes:
        """Bytes of the file, without the position of a file object, which threads share, and processes after a fork."""
        if self.stays_open and hasattr(os, "pread"):
            handle = self._handle = self._handle or self._lines.open("rb")
            found = os.pread(handle.fileno(), end - start, start)
        else:
            with self._lines.open("rb") as handle:
                handle.seek(start)
                found = handle.read(end - start)
        if len(found) < end - start:
            raise DataError(f"{self.path}: the file has become shorter while it was read")
        return found

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}  # each process opens the file for itself
