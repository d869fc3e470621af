"""Rows of embeddings from wherever they lie: an embedding table, or a plain `.npy`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.errors import DataError, MissingError

__all__ = ["NpyRows", "Picked", "open_rows"]

_log = logging.getLogger(__name__)


class NpyRows:
    """A memory-mapped `.npy` of embeddings; slices are unit float32 rows. Nothing is known of its encoder.

    Raises:
        DataError: not a numeric (N, D) array; while reading, a row that is zero or not finite (named).
    """

    encoder = None
    fingerprint = None

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
        for bad in np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[:1]:
            kind = "zero" if norms[bad, 0] == 0 else "not finite (NaN or infinity)"
            row = (index.start or 0) + bad if isinstance(index, slice) else index[bad]
            raise DataError(f"{self.path}: row {row} is {kind}")
        if np.abs(norms - 1).max(initial=0) < 1e-3:
            return rows
        if not self._told:
            _log.warning("%s: rows are not of unit length; they are normalised", self.path)
            self._told = True
        unit: NDArray[np.float32] = rows / norms
        return unit


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
        from close.embeddings import EmbeddingTable

        return EmbeddingTable.load(place)
    if place.suffix == ".npy":
        return NpyRows(place)
    raise DataError(f"{place}: embeddings are a table's folder or a .npy file")
