"""Rows in many files, or in Parquet: read by position like those of one file, so that training treats them alike."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from close.data import tables
from close.data.readers import ReadOptions, convert
from close.data.rows import LEFT_OUT, Row, RowFile
from close.errors import DataError, listed
from close.io.files import read_json, waiting, write_json
from close.io.keys import cache_folder, file_key, text_key

__all__ = ["RowShards", "is_rows", "open_rows"]

SUFFIXES = (".jsonl", ".txt", *tables.SUFFIXES, ".parquet")
FORMAT = 2
"""Of what is kept of Parquet."""
OPEN_SHARDS = 100
"""Most shards that are kept open, all of them: systems allow a process some 256 files and more."""
_log = logging.getLogger(__name__)


def open_rows(path: str | Path | RowFile, columns: Mapping[str, str | int] | None = None) -> RowFile:
    """The rows of a file, or of all files of a folder in order of name.

    Nothing is held in memory but 24 bytes a row. Parquet, which can't be read by position, is written once as JSONL to the cache.

    Args:
        path: `.jsonl`, `.txt`, a table (`.csv`, `.tsv`, `.token`) or `.parquet`, or a folder of these; or rows, as they are.
        columns: of tables and Parquet, key to a column's name or place from 0, where the names do not say it.
    Raises:
        MissingError: no such file. DataError: what is wrong at which line; no file in the folder.
    """
    if isinstance(path, RowFile):
        return path
    place = Path(path)
    if place.is_dir():
        return RowShards(place, columns)
    if place.suffix.lower() == ".parquet" and place.is_file():
        rows = RowFile(place, lines=_as_lines(place, columns))
        rows.sha256 = _Sum.of(rows.sha256, partial(_sum_by_cache, rows._lines, place.parent))
        return rows
    return RowFile(place, columns)


def is_rows(path: str | Path, *, images: bool = False) -> bool:
    """Whether a path names a data file, or a folder of shards, rather than embeddings.

    Args:
        images: they are wanted: lines of text have none, and a folder of these alone is one of something else.
    """
    place = Path(path)
    if place.is_dir():
        found = [path for path in _shards(place) if not images or path.suffix.lower() != ".txt"]
        beside_vectors = any(place.glob("*.npy")) and all(path.suffix.lower() == ".parquet" for path in found)
        return bool(found) and not (place / "table.json").is_file() and not beside_vectors
    return place.suffix.lower() in SUFFIXES


def _shards(folder: Path) -> list[Path]:
    """Its files of rows; names of vectors, which `close embed text --export` writes beside them, are none."""
    names = (name for name in folder.iterdir() if not name.name.endswith(".ids.txt"))
    return sorted(path for path in names if path.suffix.lower() in SUFFIXES and path.is_file())


class RowShards(RowFile):
    """The files of a folder as one; a row's id is `shard/id`.

    Raises:
        DataError: there is none, or one is not well formed; two are of one name but for the ending.
    """

    def __init__(self, folder: Path, columns: Mapping[str, str | int] | None = None) -> None:
        self.path = folder
        found = _shards(folder)
        if not found:
            raise DataError(f"{folder}: no shard in this folder ({', '.join(SUFFIXES)})")
        self.names = [path.stem for path in found]
        for one, other in pairwise(sorted(found, key=lambda path: path.stem)):
            if one.stem == other.stem:
                raise DataError(
                    f"{folder}: {one.name} and {other.name} would give rows of one id, {one.stem}/…; a shard's name without "
                    "its ending is its own: rename one, or move it out of the folder"
                )
        self.shards = [open_rows(path, columns) for path in found]
        for rows in self.shards:
            rows.stays_open = len(found) <= OPEN_SHARDS
        kinds = {shard.kind for shard in self.shards}
        self.kind = kinds.pop() if len(kinds) == 1 else "shards"
        texts = [path.name for path in found if path.suffix.lower() == ".txt"]
        if texts and len(texts) < len(found):
            _log.warning("%s: lines of %s are read as captions, beside the other shards", folder, listed(texts))
        self.starts = np.cumsum([0, *map(len, self.shards)])
        sums = [shard.sha256 for shard in self.shards]
        self.sha256 = _Sum.of(_joined(self.names, sums), partial(_joined, self.names, sums, before=True))
        self._handle: Any = None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _row(self, index: int) -> Row:
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        row = self.shards[shard][index - int(self.starts[shard])]
        return replace(row, id=f"{self.names[shard]}/{row.id}")


def _as_lines(path: Path, columns: Mapping[str, str | int] | None) -> Path:
    """The JSONL that stands for a Parquet file in the cache, with its images as seen from that file's folder.

    What was left out and noted is told each time, as of a table.
    """
    key = text_key(f"{FORMAT} {file_key(path.resolve())} {sorted(columns.items()) if columns else ''}")
    lines = cache_folder() / "rows" / f"{path.stem}-{key:016x}.jsonl"
    about = lines.with_suffix(".json")
    with waiting(Path(f"{lines}.lock"), lines, about):  # of several processes one converts, the others read
        if not (lines.is_file() and about.is_file()):
            options = ReadOptions(columns=columns)
            made = convert("parquet", path, lines, options=options, overwrite=True, folder=path.parent)
            write_json(about, {"notes": made.notes, "skipped": made.skipped})
    told = read_json(about)
    for note in told["notes"]:
        _log.warning("%s", note)
    for reason, count in told["skipped"].items():
        _log.warning(LEFT_OUT, path, count, reason)
    return lines


class _Sum(str):
    """A sum of rows, which equals the one of before too: what was made of them is not told that they have changed."""

    before: Callable[[], str]

    @classmethod
    def of(cls, now: str, before: Callable[[], str]) -> _Sum:
        """Args: before: gives the sum that earlier versions took."""
        made = cls(now)
        made.before = before
        return made

    @cached_property
    def _before(self) -> str:
        return self.before()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and (str.__eq__(self, other) or str.__eq__(self._before, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def _joined(names: Sequence[str], sums: Sequence[str], *, before: bool = False) -> str:
    """The sum of shards: names are in the ids."""
    parts = (part.before() if before and isinstance(part, _Sum) else part for part in sums)
    return hashlib.sha256(" ".join(f"{n}\0{part}" for n, part in zip(names, parts, strict=True)).encode()).hexdigest()


def _sum_by_cache(lines: Path, folder: Path) -> str:
    """The sum of a Parquet file's rows when their images were named as seen from the cache."""
    digest, home, there = hashlib.sha256(), os.path.abspath(lines.parent), os.path.abspath(folder)
    with lines.open(encoding="utf-8") as file:
        for values in map(json.loads, file):
            if isinstance(values.get("image"), str):  # several were none
                values["image"] = os.path.relpath(os.path.join(there, values["image"]), home)
            digest.update((json.dumps(values, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
