"""Embeddings from wherever they lie: an embedding table, a plain `.npy`, or a folder of such parts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.data.rows import Modality
from close.errors import DataError, MismatchError, MissingError
from close.vectors.checked import refuse_bad_rows
from close.vectors.parts import JoinedArrays, find_parts, has_parts
from close.vectors.table import EmbeddingTable, how_made

__all__ = [
    "NpyVectors",
    "Picked",
    "RowVectors",
    "check_encoder",
    "check_rows",
    "differing_ids",
    "open_vectors",
    "same_weights",
]

_log = logging.getLogger(__name__)
_OF_NOTHING = hashlib.sha256().hexdigest()[:32]
"""What encoders without weights had as their fingerprint before they got one of their own: it says nothing."""


HEAD = 1000
"""Rows that tell whether a table holds unit rows."""


class RowVectors:
    """(N, D) numbers; slices, and choices of rows, are float32 rows of unit length. Their encoder is not known.

    Rows of unit length to 1e-3 (as in float16) are taken as they are, unless others at the table's beginning are not.
    As a whole (`np.asarray`) it is the numbers themselves, for measures, which check rows and tell what they normalise.

    Args:
        rows: (N, D), sliced as arrays are. where: what messages begin with.
    Raises:
        DataError: while reading, a row that is zero or not finite (named).
    """

    encoder: str | None = None
    fingerprint: str | None = None
    ids: Sequence[str] | None = None

    def __init__(self, rows: Any, where: str) -> None:
        self._rows, self._where = rows, where
        self.shape: tuple[int, int] = rows.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._rows, dtype=dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        rows = np.asarray(self._rows[index])
        norms = _lengths(rows)
        refuse_bad_rows(norms, index, self._where, len(self))
        off = self._raw | _is_off(norms)  # a row is what it is, whichever are read with it
        if not off.any():
            return rows.astype(np.float32, copy=False)
        self._tell_scaled()
        unit: NDArray[np.float32] = (rows / np.where(off, norms, 1.0)[:, None]).astype(np.float32, copy=False)
        return unit

    @cached_property
    def _raw(self) -> bool:
        """Whether these are no unit rows: then such as happen to be nearly of unit length are scaled too."""
        return bool(_is_off(_lengths(np.asarray(self._rows[:HEAD]))).any())

    def _tell_scaled(self) -> None:
        """Rows were brought to unit length: of an array in memory nobody says that they are."""


def _lengths(rows: NDArray[Any]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(
        np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    )  # fits squares of float32
    return lengths


def _is_off(lengths: NDArray[np.float64]) -> NDArray[np.bool_]:
    off: NDArray[np.bool_] = np.abs(lengths - 1) >= 1e-3
    return off


class NpyVectors(RowVectors):
    """A memory-mapped `.npy` of embeddings, or a folder of parts; with ids where clip-retrieval's metadata lie beside it.

    Args:
        path: the file or folder. modality: which side of a folder that holds both.
    Raises:
        DataError: not a numeric (N, D) array.
    """

    def __init__(self, path: Path, modality: Modality | None = None) -> None:
        self.path, self._modality = path, modality
        rows = JoinedArrays(find_parts(path, modality) if path.is_dir() else [path])
        super().__init__(rows, f"{path}:")
        self.ids = rows.names
        self._told = False

    def __reduce__(self) -> Any:
        return NpyVectors, (self.path, self._modality)  # other processes map the files for themselves

    def _tell_scaled(self) -> None:
        if not self._told:
            _log.warning("%s: rows are not of unit length; they are normalised", self.path)
            self._told = True


class Picked:
    """Some rows of a table or `.npy`, in an order of their own, read block by block.

    Args:
        rows: as `open_vectors` gives them. index: (P,) row numbers.
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


def open_vectors(path: Any, modality: Modality | None = None) -> Any:
    """Embeddings, (N, D) unit rows with `shape`, `len`, slices, `path`, and `ids`, `encoder` and `fingerprint` (None for `.npy`).

    Args:
        path: folder of an embedding table, a `.npy` file, or a folder of these (clip-retrieval, embedding-reader).
        modality: what it is given as.
    Raises:
        MissingError: there is nothing. DataError: it is no table. MismatchError: a table of the other modality.
    """
    place = Path(path)
    if not place.exists():
        raise MissingError(f"{place}: no such embedding table (`close embed` makes one) or .npy file")
    if place.is_dir() and not (place / "table.json").is_file() and has_parts(place):
        return NpyVectors(place, modality)
    if place.is_dir():
        table = EmbeddingTable(place)
        if modality not in (None, table.modality):
            raise MismatchError(f"{path} holds {table.modality} embeddings, but is given as --{modality}")
        return table
    if place.suffix.lower() != ".npy":
        raise DataError(f"{place}: not a plain .npy array ({how_made(place, modality)})")
    return NpyVectors(place)


def differing_ids(text: Any, image: Any) -> str:
    """A remark on two tables that are paired by row, where their ids say otherwise; of tables without ids, nothing."""
    ids = (getattr(side, "ids", None) for side in (text, image))
    for row, (t, v) in enumerate(zip(*(side or () for side in ids), strict=False)):
        if t != v:
            return f"paired by row, though ids differ: row {row} is {t!r} and {v!r}; --pairs says which belong together"
    return ""


def same_weights(one: str, other: str) -> bool:
    """Whether two fingerprints may be of one encoder: those of before, of encoders without weights, were of nothing."""
    return one == other or _OF_NOTHING in (one, other)


def check_encoder(
    what: str, encoder: str | None, fingerprint: str | None, user: str, users: str | None, expected: str | None
) -> None:
    """Refuse vectors of another encoder; unknown fingerprints are not compared.

    Args:
        what: the vectors, or what was learnt on them. encoder, fingerprint: what made them.
        user: what they are to be used with. users, expected: the name and the fingerprint of its encoder.
    Raises:
        MismatchError: names both.
    """
    if fingerprint and expected and not same_weights(fingerprint, expected):
        theirs = f"encoder {users!r} (weights {expected[:8]})" if users else f"weights {expected[:8]}"
        raise MismatchError(
            f"{what} comes from encoder {encoder or 'unknown'!r} (weights {fingerprint[:8]}), but {user} uses {theirs}: "
            "embed, or fit, again with that one"
        )


def check_rows(what: str, rows: Any, encoder: Any, user: str = "the recipe") -> None:
    """Refuse vectors, or what was learnt on them, that an encoder's own can't be used with.

    Args:
        what: how a message names them. rows: with `encoder`, `fingerprint` and `shape`.
        encoder: with `name`, `fingerprint` and `embed_dim`. user: what uses it.
    Raises:
        MismatchError: they are of another encoder, or of another width; names both.
    """
    check_encoder(what, rows.encoder, rows.fingerprint, user, encoder.name, encoder.fingerprint)
    if rows.shape[1] != encoder.embed_dim:
        raise MismatchError(
            f"{what} has {rows.shape[1]} columns, and encoder {encoder.name!r} of {user} has {encoder.embed_dim}"
        )
