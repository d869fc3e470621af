"""Rows in many files, or in Parquet: read by position like those of one file, so that training treats them alike."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from close.data.readers import convert
from close.data.rows import Row, RowFile
from close.errors import DataError
from close.io.keys import cache_folder, file_key

__all__ = ["RowShards", "is_rows", "open_rows"]

SUFFIXES = (".jsonl", ".txt", ".csv", ".parquet")
OPEN_SHARDS = 100
"""Shards that are kept open at once: systems allow a process some 256 files and more."""


def open_rows(path: str | Path) -> RowFile:
    """The rows of a file, or of all files of a folder in order of name.

    Nothing is held in memory but 16 bytes a row. Parquet, which can't be read by position, is written once as JSONL to the cache.

    Args:
        path: `.jsonl`, `.txt`, `.csv` or `.parquet`, or a folder of these.
    Raises:
        MissingError: no such file. DataError: what is wrong at which line; no file in the folder.
    """
    place = Path(path)
    if place.is_dir():
        return RowShards(place)
    return RowFile(_as_lines(place) if place.suffix.lower() == ".parquet" and place.is_file() else place)


def is_rows(path: str | Path) -> bool:
    """Whether a path names a data file, or a folder of shards, rather than embeddings."""
    place = Path(path)
    if place.is_dir():
        return not (place / "table.json").is_file() and bool(_shards(place))
    return place.suffix.lower() in SUFFIXES


def _shards(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


class RowShards(RowFile):
    """The files of a folder as one; a row's id is `shard/id`.

    Raises:
        DataError: there is none, or one is not well formed.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        found = _shards(folder)
        if not found:
            raise DataError(f"{folder}: no shard in this folder ({', '.join(SUFFIXES)})")
        self.names = [path.stem for path in found]
        self.shards = [open_rows(path) for path in found]
        kinds = {shard.kind for shard in self.shards}
        self.kind = kinds.pop() if len(kinds) == 1 else "shards"
        self.starts = np.cumsum([0, *map(len, self.shards)])
        self.sha256 = hashlib.sha256(" ".join(shard.sha256 for shard in self.shards).encode()).hexdigest()
        self._handle: Any = None

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        row: Row = self.shards[shard][index - int(self.starts[shard])]
        if len(self.shards) > OPEN_SHARDS:
            self.shards[shard].close()
        return replace(row, id=f"{self.names[shard]}/{row.id}")


def _as_lines(path: Path) -> Path:
    """The JSONL that stands for a Parquet file in the cache."""
    lines = cache_folder() / "rows" / f"{path.stem}-{file_key(path.resolve()):016x}.jsonl"
    if not lines.is_file():
        convert("parquet", path, lines, overwrite=True)
    return lines
