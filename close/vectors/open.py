"""Rows of embeddings from wherever they lie: an embedding table, or a plain `.npy`."""

from __future__ import annotations

import logging
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.data.rows import Row, RowFile
from close.errors import DataError, MismatchError, MissingError

__all__ = ["Finder", "NpyRows", "Picked", "open_rows", "read_groups", "refuse_bad_rows", "sources_of"]

_log = logging.getLogger(__name__)


class NpyRows:
    """A memory-mapped `.npy` of embeddings; slices are unit float32 rows. Nothing is known of its encoder.

    Raises:
        DataError: not a numeric (N, D) array; while reading, a row that is zero or not finite (named).
    """

    encoder = None
    fingerprint = None
    ids = None

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._rows = np.load(path, mmap_mode="r")
        except (ValueError, OSError) as error:
            raise DataError(f"{path}: not a plain .npy array ({error})") from None
        if self._rows.ndim != 2 or self._rows.dtype.kind != "f":
            raise DataError(f"{path}: expected (N, D) numbers, found {self._rows.dtype} of shape {self._rows.shape}")
        self.shape: tuple[int, int] = self._rows.shape
        self._told = False

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        rows = np.asarray(self._rows[index], dtype=np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        refuse_bad_rows(norms[:, 0], index, f"{self.path}:")
        if np.abs(norms - 1).max(initial=0) < 1e-3:
            return rows
        if not self._told:
            _log.warning("%s: rows are not of unit length; they are normalised", self.path)
            self._told = True
        unit: NDArray[np.float32] = rows / norms
        return unit


def refuse_bad_rows(norms: NDArray[Any], index: Any, where: str) -> None:
    """Name the first row that is zero or not finite.

    Args:
        norms: (B,) of the rows that `index`, a slice or row numbers, took. where: what the message begins with.
    Raises:
        DataError: there is one.
    """
    for bad in np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[:1]:
        kind = "zero" if norms[bad] == 0 else "not finite (NaN or infinity)"
        row = (index.start or 0) + bad if isinstance(index, slice) else index[bad]
        raise DataError(f"{where} row {row} is {kind}")


class Picked:
    """Some rows of a table or `.npy`, in an order of their own, read block by block.

    Args:
        rows: as `open_rows` gives them. index: (P,) row numbers.
    """

    def __init__(self, rows: Any, index: NDArray[np.int64]) -> None:
        self.rows, self.index = rows, index
        self.path, self.encoder, self.fingerprint = rows.path, rows.encoder, rows.fingerprint
        self.shape: tuple[int, int] = (len(index), rows.shape[1])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        picked: NDArray[np.float32] = self.rows[self.index[index]]
        return picked


def open_rows(path: Any) -> Any:
    """Embeddings to fit on: (N, D) unit rows with `shape`, `len`, slices, `encoder` and `fingerprint` (None for `.npy`).

    Args:
        path: folder of an embedding table, or a `.npy` file.
    Raises:
        MissingError: there is nothing. DataError: it is no table.
    """
    place = Path(path)
    if not place.exists():
        raise MissingError(f"{place}: no such embedding table (`close embed` makes one) or .npy file")
    if place.is_dir():
        from close.vectors.table import EmbeddingTable

        return EmbeddingTable.load(place)
    if place.suffix == ".npy":
        return NpyRows(place)
    raise DataError(f"{place}: embeddings are a table's folder or a .npy file")


def read_groups(rows: RowFile, table: Any) -> NDArray[Any]:
    """(N,) labels of a text table's rows from the data file that it was made of: captions of one image share theirs.

    Args:
        rows: the data file. table: N texts, with `path`, and `ids` (None for a `.npy`).
    Raises:
        MissingError, DataError: the file is not there, or wrong.
        MismatchError: it does not have as many sources as a `.npy` has rows.
    """
    texts = Finder(table)
    labels = np.array([f"\0\0{t}" for t in range(len(table))], dtype=object)
    for row in rows:
        for name, _ in sources_of(row):
            t = texts.row([name])
            if t is not None and t < len(labels):
                labels[t] = row.group or f"\0{row.id}"
    texts.check_length(rows.path)
    return labels.astype(str)


class Finder:
    """Rows by id in an embedding table; in a `.npy`, one after the other."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.by_id = None if table.ids is None else {name: row for row, name in enumerate(table.ids)}
        self.counter = count()
        self.used = 0

    def row(self, names: list[str]) -> int | None:
        """The row of the first name that is there, or in a `.npy` the next one."""
        self.used += 1
        if self.by_id is None:
            return next(self.counter)
        return next((self.by_id[name] for name in names if name in self.by_id), None)

    def check_length(self, path: Path) -> None:
        """Refuse a `.npy` of another length than the data file, which has been read to its end."""
        if self.by_id is None and self.used != len(self.table):
            raise MismatchError(
                f"{path} has {self.used} items for the {len(self.table)} rows of {self.table.path}: "
                "it is not the data file that this was made of"
            )


def sources_of(row: Row) -> list[tuple[str, str]]:
    """(id, text) of a row's sources, named as embedding tables name them."""
    if len(row.source) == 1:
        return [(row.id, row.source[0])]
    return [(f"{row.id}#{number}", text) for number, text in enumerate(row.source)]
