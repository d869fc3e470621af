"""Arrays on disk: `.npy` files mapped, whatever their headers say, and rows whose blocks are verified as they are read."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.errors import DataError, MissingError, reason

__all__ = ["BLOCK", "CheckedRows", "checksums", "map_array", "rows_in_block", "vectors_sum", "write_rows"]

BLOCK = 1 << 20
"""Bytes that share a checksum: what the first read of a single row costs, about a millisecond."""


def map_array(path: Path, dtype: Any = None, ndim: int | None = None) -> NDArray[Any]:
    """The array of a `.npy` file, memory-mapped. Sizes are those of the file: no header can ask for more.

    Args:
        dtype, ndim: what it has to be, where that is known.
    Raises:
        MissingError: no such file. DataError: it holds anything else.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header is read as Python's source, and fails in as many ways
        raise DataError(f"{path}: not a plain .npy array ({reason(error, whole=False)})") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path}: an archive of several arrays; give one .npy array")
    if (dtype is not None and array.dtype != dtype) or (ndim is not None and array.ndim != ndim):
        wanted = "" if dtype is None else f" of {np.dtype(dtype).name}"
        raise DataError(f"{path}: expected {ndim} dimensions{wanted}, found {array.dtype} of shape {array.shape}")
    return array


def write_rows(path: Path, shape: tuple[int, int], blocks: Iterable[Any]) -> None:
    """Write (N, D) rows as a float32 `.npy`, block by block.

    Through the file: a page of a memory map that finds the disk full ends the process.
    """
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for block in blocks:
            file.write(np.ascontiguousarray(block, "<f4").data)


def rows_in_block(row_bytes: int) -> int:
    """Rows that share a checksum."""
    return max(1, BLOCK // max(1, row_bytes))


def checksums(path: Path, head: int = 0, size: int = BLOCK) -> list[int]:
    """CRC-32 of a file's blocks: the first of `head` + `size` bytes, the others of `size`.

    About 1 GB/s on one core: a table of a million vectors of 768 numbers takes three seconds, beside hours of encoding.
    """
    sums: list[int] = []
    with path.open("rb") as file:
        block = file.read(head + size)
        while block or not sums:
            sums.append(zlib.crc32(block))
            block = file.read(size)
    return sums


def vectors_sum(rows: Any) -> str:
    """SHA-256 of (N, D) numbers as float32, whatever holds them; some of them in memory at a time."""
    digest = hashlib.sha256()
    for start in range(0, len(rows), 4096):
        digest.update(np.asarray(rows[start : start + 4096], dtype=np.float32).tobytes())
    return digest.hexdigest()


class CheckedRows:
    """(U, D) float32 unit rows of a `.npy` file. A block is verified when a row of it is read for the first time.

    It is compared with its checksum, and its rows have to be of unit length (to 1e-3); after that, reading costs what it costs
    from a memory map. The check reads the file again, at about 0.6 GB/s, once in a process.

    Args:
        sums: what `checksums` gave for blocks of `rows_in_block` rows; None where nothing is known of the bytes.
    Raises:
        DataError: it is no such file; while reading, a block that is damaged.
    """

    def __init__(self, path: Path, sums: Sequence[int] | None = None) -> None:
        self.path = path
        self._rows: Any = map_array(path, np.float32, 2)
        if not self._rows.flags.c_contiguous or not self._rows.shape[1]:
            raise DataError(f"{path}: expected rows one after the other, found an array of shape {self._rows.shape}")
        self.shape: tuple[int, int] = self._rows.shape
        self.nbytes: int = self._rows.nbytes
        self._sums = sums
        self._step = rows_in_block(4 * self.shape[1])
        self._unread = np.ones(-(-len(self) // self._step), bool)
        self._left = len(self._unread)
        if sums is not None and len(sums) != max(1, self._left):
            raise DataError(f"{path}: {len(sums)} checksums for {self._left} blocks")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        if self._left:
            self._verify(index[0] if isinstance(index, tuple) else index)
        rows: NDArray[np.float32] = self._rows[index]
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.float32]:
        return np.asarray(self[:], dtype=dtype)

    def _verify(self, index: Any) -> None:
        rows = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows % len(self)
        blocks = np.unique(rows // self._step)
        for block in blocks[self._unread[blocks]].tolist():
            self._verify_block(block)

    def _verify_block(self, block: int) -> None:
        """Read from the file: pages of the map would count as this process's memory."""
        head, size = self._rows.offset, self._step * 4 * self.shape[1]
        with self.path.open("rb") as file:
            start = file.read(head) if not block else b""
            file.seek(head + block * size)
            data = file.read(min(size, self.nbytes - block * size))
        if self._sums is not None and zlib.crc32(data, zlib.crc32(start)) != self._sums[block]:
            raise DataError(
                f"{self.path}: damaged (its checksum is another, block {block}); remove it and make it anew"
            )
        rows = np.frombuffer(data, np.float32).reshape(-1, self.shape[1])
        with np.errstate(over="ignore", invalid="ignore"):  # of a damaged block
            off = np.flatnonzero(~(np.abs(np.linalg.norm(rows, axis=1) - 1) < 1e-3))
        if len(off):
            raise DataError(
                f"{self.path}: row {block * self._step + off[0]} is not of unit length; remove it and make it anew"
            )
        self._unread[block] = False
        self._left -= 1
