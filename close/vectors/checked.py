"""Embeddings as every measure takes them: checked, of unit length, read block by block."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from close.errors import DataError, MismatchError
from close.io.keys import cache_folder

__all__ = [
    "Array",
    "Floats",
    "Ints",
    "Pairs",
    "UnitRows",
    "as_array",
    "check_widths",
    "distinct_rows",
    "double_blocks",
    "matrices",
    "matrix",
    "pair_blocks",
    "pair_index",
    "raw_matrices",
    "refuse_bad_rows",
    "unit_rows",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pairs = npt.ArrayLike | Literal["unpaired"] | None

BLOCK = 4096
IN_MEMORY = 2**30
"""Bytes of unit rows from which on they are written to a file."""
NAMED = 5  # rows that a message lists before it only counts


def refuse_bad_rows(norms: Array, index: Any, where: str, count: int | None = None) -> None:
    """Name the first row that is zero or not finite.

    Args:
        norms: (B,) of the rows that `index`, a slice, row numbers or a mask, took. where: what the message begins with.
        count: the rows that it took them of, for numbers from the end.
    Raises:
        DataError: there is one.
    """
    wrong = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(wrong):
        bad = wrong[0]
        kind = "zero" if norms[bad] == 0 else "not finite (NaN or infinity)"
        if isinstance(index, slice):
            row = range(*index.indices(count))[bad] if count is not None else (index.start or 0) + bad
        else:
            numbers = np.asarray(index)
            row = np.flatnonzero(numbers)[bad] if numbers.dtype == bool else numbers[bad]
            row = row + count if row < 0 and count is not None else row
        raise DataError(f"{where} row {row} is {kind}")


class UnitRows(npt.NDArray[Any]):
    """Rows known to be of unit length, and any choice of them; what is computed from them is an ordinary array again."""

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else np.asarray(array)


def as_array(x: Any, name: str) -> Array:
    """As an array; of a tensor wherever it is, whether or not it has a gradient, in float32 where NumPy has no such numbers.

    Args:
        x: an array, a tensor, a list of such rows, or anything with `__array__`. name: what messages begin with.
    Raises:
        DataError: rows of several lengths, or numbers that a mask hides, which an array would show.
    """
    if isinstance(x, (list, tuple)) and any(hasattr(row, "detach") for row in x):
        x = [as_array(row, name) for row in x]
    elif hasattr(x, "detach"):  # a tensor: torch itself is not needed to measure arrays
        x = x.detach().cpu()
        x = x.float() if str(x.dtype) == "torch.bfloat16" else x
    try:
        found = np.asanyarray(x)
    except ValueError:
        raise DataError(f"{name}: expected rows of one length, got several") from None
    masked = [row for row, part in enumerate(x) if np.ma.is_masked(part)] if isinstance(x, (list, tuple)) else []
    if np.ma.is_masked(found):
        masked = np.flatnonzero(np.ma.getmaskarray(found).reshape(len(found), -1).any(axis=1)).tolist()
    if masked:
        raise DataError(f"{name}: {len(masked)} of {len(found)} rows are masked (row {masked[0]}, …); leave them out")
    return np.asarray(found) if isinstance(found, np.ma.MaskedArray) else found


def _raw_matrix(x: Any, name: str) -> Array:
    """`x` as an (N, D) array of real numbers with N ≥ 2; a memory map stays one.

    Raises:
        DataError: another shape or type, or too few rows.
    """
    rows = as_array(x, name)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or rows.shape[1] == 0:
        raise DataError(f"{name}: expected an (N, D) array of real numbers, got shape {rows.shape} of {rows.dtype}")
    if len(rows) < 2:
        raise DataError(f"{name}: {len(rows)} rows; the gap is measured between at least 2 texts and 2 images")
    return rows


def raw_matrices(text: Any, image: Any) -> tuple[Array, Array]:
    """Both sides as (N, D) and (M, D) arrays of one width, of any length.

    Raises:
        DataError: another shape or type, or too few rows.
        MismatchError: the widths differ.
    """
    text, image = _raw_matrix(text, "text"), _raw_matrix(image, "image")
    if text.shape[1] != image.shape[1]:
        raise MismatchError(
            f"text has {text.shape[1]} dimensions and image {image.shape[1]}: both must come from one contrastive encoder"
        )
    return text, image


def matrix(x: Any, name: str) -> Array:
    """`x` as (N, D) unit rows, in float64 where it is; rows of unit length to 1e-6 are taken as they are.

    Raises:
        DataError: another shape or type, too few rows, or rows that are zero, NaN or infinite (named).
    """
    rows = _raw_matrix(x, name)
    if isinstance(rows, UnitRows):
        return rows
    norms = _norms(rows, name)
    if rows.dtype.kind == "f" and np.abs(norms - 1).max() <= 1e-6:
        return rows.view(UnitRows)
    return _scaled(rows, norms, np.float64 if rows.dtype == np.float64 else np.float32)


def matrices(text: Any, image: Any) -> tuple[Array, Array]:
    """Both sides as (N, D) and (M, D) unit rows of one width: every measure is of directions, whatever the rows' lengths.

    Raises:
        DataError: see `matrix`.
        MismatchError: the widths differ.
    """
    text, image = raw_matrices(text, image)
    return matrix(text, "text"), matrix(image, "image")


def check_widths(a: Any, b: Any) -> None:
    """Refuse what can't be compared row by row.

    Raises:
        DataError: not (N, D) and (M, D).
    """
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[1]:
        raise DataError(f"embeddings of shapes {a.shape} and {b.shape} can't be compared; expected (N, D) and (M, D)")


def pair_index(pairs: Pairs, n_text: int, n_image: int) -> Ints:
    """Pairs as sorted, distinct (P, 2) rows (text index, image index).

    Args:
        pairs: None pairs by row; "unpaired" gives no pairs; else (P, 2) integers.
    Raises:
        MismatchError: pairing by row and the lengths differ.
        DataError: another shape or type, no pairs, or a pair that points nowhere.
    """
    if isinstance(pairs, str):
        if pairs != "unpaired":
            raise DataError(f"pairs is None, 'unpaired' or an (P, 2) integer array, not {pairs!r}")
        return np.empty((0, 2), np.int64)
    if pairs is None:
        if n_text != n_image:
            raise MismatchError(
                f"{n_text} texts and {n_image} images can't be paired by row: "
                "say which belong together (--pairs, in Python pairs), or that none do (--unpaired)"
            )
        return np.repeat(np.arange(n_text)[:, None], 2, axis=1)
    index = as_array(pairs, "pairs")
    if index.ndim != 2 or index.shape[1] != 2 or index.dtype.kind not in "iu" or len(index) == 0:
        raise DataError(
            f"pairs: expected (P, 2) integers (text index, image index), P ≥ 1, got shape {index.shape} of {index.dtype}"
        )
    for column, (name, count) in enumerate((("text", n_text), ("image", n_image))):
        lost = np.flatnonzero((index[:, column] < 0) | (index[:, column] >= count))
        if len(lost):
            raise DataError(
                f"pairs: pair {lost[0]} points at {name} {index[lost[0], column]}, but {name} rows go from 0 to {count - 1}"
                + (f" ({len(lost)} such pairs)" if len(lost) > 1 else "")
            )
    return np.unique(index.astype(np.int64), axis=0)


def double_blocks(rows: Array, size: int = BLOCK) -> Iterator[Floats]:
    """Consecutive (≤ size, D) float64 copies."""
    for start in range(0, len(rows), size):
        yield np.array(rows[start : start + size], dtype=np.float64)


def pair_blocks(text: Array, image: Array, pairs: Ints, size: int = BLOCK) -> Iterator[tuple[Floats, Floats]]:
    """Consecutive float64 blocks of the paired texts and images."""
    for start in range(0, len(pairs), size):
        t, v = pairs[start : start + size].T
        yield text[t].astype(np.float64), image[v].astype(np.float64)


def unit_rows(x: Any, name: str) -> tuple[npt.NDArray[np.float32], str | None]:
    """Rows of unit length in float32, and a remark if they were not of unit length (to 1e-3) before.

    Those that are so already (to 1e-6) are no copy.

    Raises:
        DataError: a shape that is not (N, D), rows that are zero, NaN or infinite (named), or all the same.
    """
    rows = _raw_matrix(x, name)
    norms = _norms(rows, name)
    as_it_is = rows.dtype == np.float32 and np.abs(norms - 1).max() <= 1e-6
    unit = rows.view(UnitRows) if as_it_is else _scaled(rows, norms, np.float32)
    if all(np.ptp(unit[start : start + BLOCK + 1], axis=0).max() < 1e-6 for start in range(0, len(unit), BLOCK)):
        raise DataError(f"{name}: all {len(rows)} rows are the same vector; nothing can be measured on it")
    off = int((np.abs(norms - 1) > 1e-3).sum())
    if not off:
        return unit, None
    return (
        unit,
        f"{off} of {len(rows)} rows were not of unit length (norms {norms.min():.3g} to {norms.max():.3g}); normalised",
    )


def _norms(rows: Array, name: str) -> Floats:
    """(N,) lengths of the rows; DataError names those that are zero or not finite."""
    norms = np.concatenate([np.linalg.norm(block, axis=1) for block in double_blocks(rows)])
    _refuse(np.flatnonzero(~np.isfinite(norms)), name, "NaN or infinite", len(rows))
    _refuse(np.flatnonzero(norms == 0), name, "all zeros", len(rows))
    return norms


def _scaled(rows: Array, norms: Floats, dtype: Any) -> Array:
    """The rows over their lengths; many lie in a file that is gone with them, so that they need not stay in memory."""
    many = rows.size * np.dtype(dtype).itemsize > IN_MEMORY
    unit = _on_disk(rows.shape, np.dtype(dtype)) if many else np.empty(rows.shape, dtype)
    for start, block in zip(range(0, len(rows), BLOCK), double_blocks(rows), strict=True):
        unit[start : start + BLOCK] = block / norms[start : start + BLOCK, None]
    return unit.view(UnitRows)


def _on_disk(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is told now, and not by a signal at some write
            os.posix_fallocate(file.fileno(), 0, math.prod(shape) * dtype.itemsize)
        return np.memmap(file, dtype, "w+", shape=shape)


def _refuse(bad: Ints, name: str, what: str, total: int) -> None:
    if len(bad):
        listed = ", ".join(map(str, bad[:NAMED])) + (", …" if len(bad) > NAMED else "")
        raise DataError(
            f"{name}: {len(bad)} of {total} rows {'are' if len(bad) > 1 else 'is'} {what} (row {listed}); "
            "remove them or embed them again"
        )


def distinct_rows(rows: Array) -> tuple[Ints, Ints]:
    """First occurrences of each distinct row, and for every row the position of its own among them."""
    seen: dict[bytes, int] = {}
    first: list[int] = []
    where = np.empty(len(rows), np.int64)
    for index, row in enumerate(rows):
        key = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        where[index] = seen.setdefault(key, len(seen))
        if len(first) < len(seen):
            first.append(index)
    return np.array(first, np.int64), where
