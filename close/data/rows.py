"""Rows: what every task reads, checked one by one, from JSONL, plain text or CSV, without holding the file in memory."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, overload

import numpy as np

from close.data.text import FIRST_LINES, not_plain
from close.errors import DataError, MissingError
from close.registry import unknown_name

__all__ = ["Modality", "Row", "RowFile", "named_sources", "parse_row"]

Modality = Literal["text", "image"]
"""Which tower a vector came from; "image" stands for whatever the encoder's second tower takes."""

_TEXTS = ("source", "target", "references", "answers")
_STRINGS = ("id", "context", "image", "group", "label", "task")
_KEYS = (*_TEXTS, *_STRINGS, "meta")
_CSV_CAPTIONS = ("source", "caption", "text", "sentence")


@dataclass(frozen=True, slots=True)
class Row:
    """One example as it lies in a file.

    Attributes:
        id: name of the row; its line number where the file gives none.
        source: text(s) for the contrastive encoder; the vectors of several are averaged.
        context: text for the language model's input.
        target: text(s) to produce, each trained on.
        image: file of the second modality, resolved against the data file's folder.
        group: rows of one image share it.
        references, answers, label: what evaluation compares with.
        task: for files that mix tasks.
        meta: anything else.
    """

    id: str
    source: tuple[str, ...] = ()
    context: str = ""
    target: tuple[str, ...] = ()
    image: Path | None = None
    group: str | None = None
    references: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    label: str | None = None
    task: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def named_sources(row: Row) -> list[tuple[str, str]]:
    """(id, text) of each source of a row, as embedding tables name them: its id, or `id#0`, `id#1`, … of several."""
    if len(row.source) == 1:
        return [(row.id, row.source[0])]
    return [(f"{row.id}#{number}", text) for number, text in enumerate(row.source)]


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
    for key in values:
        if key not in _KEYS:
            raise DataError(f"{where}: {unknown_name('key', str(key), _KEYS)} (own data goes under 'meta')")
    if values.get("source") is None and values.get("image") is None:
        raise DataError(f"{where}: missing key 'source' (or 'image'), e.g. {{\"source\": \"a dog on a beach\"}}")
    checked: dict[str, Any] = {"id": default_id}
    checked |= {key: _texts(values[key], key, where) for key in _TEXTS if values.get(key) is not None}
    checked |= {key: _string(values[key], key, where) for key in _STRINGS if values.get(key) is not None}
    checked["meta"] = values.get("meta") or {}
    if not isinstance(checked["meta"], dict):
        raise DataError(f"{where}: 'meta' is {checked['meta']!r}, expected an object")
    if "image" in checked:
        checked["image"] = folder / checked["image"]
    return Row(**checked)


def _texts(value: Any, key: str, where: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise DataError(f"{where}: {key!r} is an empty list, expected at least one text")
    for item in items:
        if not isinstance(item, str):
            raise DataError(f"{where}: {key!r} is {item!r}, expected a string or a list of strings")
        if not item.strip():
            raise DataError(f"{where}: {key!r} is an empty text")
        _check_unicode(item, key, where)
    return tuple(items)


def _string(value: Any, key: str, where: str) -> str:
    if key in ("id", "group") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{where}: {key!r} is {value!r}, expected a string")
    _check_unicode(value, key, where)
    return value


def _check_unicode(text: str, key: str, where: str) -> None:
    """JSON can spell halves of a character (`\\ud83d`), which no tokenizer or file takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {key!r} holds half a character at position {error.start}: {text!r}") from None


class RowFile(Sequence[Row]):
    """The rows of one file: checked once from start to end, then read by position.

    A line-based file is indexed by byte offsets (16 bytes a row in memory); rows are parsed when asked for. Forked processes and
    threads may read at once: no read moves a position that others share.

    Args:
        path: `.jsonl`, `.txt` (one caption a line) or `.csv` (a header with a column source, caption, text or sentence).
    Raises:
        MissingError: no such file.
        DataError: the file is empty, or what is wrong at which line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingError(f"{self.path}: no such file" + (" (it is a folder)" if self.path.is_dir() else ""))
        self.kind = self.path.suffix.lower().lstrip(".")
        if self.kind not in ("jsonl", "txt", "csv"):
            raise DataError(
                f"{self.path}: rows are read from .jsonl, .txt or .csv; `close convert` makes JSONL of other formats"
            )
        self._handle: BinaryIO | None = None
        self._table: list[Row] = []
        self._hashes = array("q")
        if self.kind == "txt":
            self._check_plain()
        digest = hashlib.sha256()
        self._offsets = np.frombuffer(self._index(digest), dtype=np.int64) if self.kind != "csv" else None
        if self.kind == "csv":
            self._table = list(self._read_csv(digest))
            self._hashes.extend(hash(row.id) for row in self._table)
        self.sha256 = digest.hexdigest()
        if not len(self):
            raise DataError(f"{self.path}: the file is empty, expected one row a line")
        self._check_ids()
        del self._hashes

    def _check_plain(self) -> None:
        with self.path.open("rb") as lines:
            first = [line.decode("utf-8", "replace") for line in islice(lines, FIRST_LINES)]
        if (found := not_plain(first)) is not None:
            raise DataError(f"{self.path}: expected one caption a line, but this looks like {found}")

    def _check_ids(self) -> None:
        """Refuse two rows of one id; hashes, 8 bytes a row, stand for the ids."""
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        if (counts > 1).any():
            row = self[int(first[counts > 1].min())]
            raise DataError(f"{self.path}: two rows have the id {row.id!r}; ids are unique in a file")

    def _index(self, digest: Any) -> bytes:
        offsets, position = array("q"), 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                digest.update(line)
                if line.strip():
                    self._hashes.append(hash(self._parse(line, number).id))
                    offsets.extend((position, number))
                elif self.kind == "txt" and lines.peek(1):
                    raise DataError(f"{self.path}:{number}: empty caption")
                position += len(line)
        offsets.extend((position, 0))
        return offsets.tobytes()

    def _parse(self, line: bytes, number: int) -> Row:
        where = f"{self.path}:{number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: not UTF-8 at byte {error.start} of the line; save the file as UTF-8") from None
        if self.kind == "txt":
            if not text.strip():
                raise DataError(f"{where}: empty caption")
            return Row(id=str(number), source=(text.strip(),))
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}: not JSON ({error.msg} at column {error.colno}); each line is one object"
            ) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in thousands
            raise DataError(f"{where}: JSON beyond all measure ({error})") from None
        return parse_row(values, where, folder=self.path.parent, default_id=str(number))

    def _read_csv(self, digest: Any) -> Iterator[Row]:
        digest.update(self.path.read_bytes())
        with self.path.open(newline="", encoding="utf-8-sig") as lines:
            try:
                reader = csv.DictReader(lines, strict=True)
                names = {name.strip().lower(): name for name in reader.fieldnames or ()}
                if not names:
                    return  # empty, which is told for every kind of file
                column = next((names[key] for key in _CSV_CAPTIONS if key in names), None)
                if column is None:
                    raise DataError(
                        f"{self.path}:1: no column named {', '.join(_CSV_CAPTIONS)}; found {', '.join(names)}"
                    )
                for values in reader:
                    kept = {key: values[names[key]] for key in _KEYS if names.get(key) and values[names[key]]}
                    kept["source"] = values[column] or ""
                    number = reader.line_num
                    yield parse_row(kept, f"{self.path}:{number}", folder=self.path.parent, default_id=str(number))
            except (csv.Error, UnicodeDecodeError) as error:
                raise DataError(f"{self.path}: not a CSV file in UTF-8 ({error})") from None

    def __len__(self) -> int:
        return len(self._table) if self._offsets is None else len(self._offsets) // 2 - 1

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if self._offsets is None:
            return self._table[index]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        place = 2 * (index % len(self))
        start, number, end = self._offsets[place : place + 3].tolist()
        line, _, _ = self._read(start, end).partition(b"\n")  # empty lines may follow
        return self._parse(line, number)

    def _read(self, start: int, end: int) -> bytes:
        """Bytes of the file, without the position of a file object, which processes share after a fork."""
        if hasattr(os, "pread"):
            handle = self._handle = self._handle or self.path.open("rb")
            found = os.pread(handle.fileno(), end - start, start)
        else:
            with self.path.open("rb") as handle:
                handle.seek(start)
                found = handle.read(end - start)
        if len(found) < end - start:
            raise DataError(f"{self.path}: the file has become shorter while it was read")
        return found

    def close(self) -> None:
        """Give the open file back; the next row opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}  # each process opens the file for itself
