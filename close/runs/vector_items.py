"""Vectors of a run's encoder as what a captioner is given: a table, a `.npy`, or an array."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from close.data.rows import Modality
from close.errors import CloseError, DataError
from close.model.configuration import CloseConfig
from close.registry import unknown_name
from close.runs.items import Read, read_items
from close.vectors.checked import as_array
from close.vectors.open import RowVectors, check_rows, open_vectors
from close.vectors.table import EmbeddingTable

__all__ = ["VectorItems"]

_log = logging.getLogger(__name__)


class VectorItems:
    """Vectors whose items are row numbers; read batch by batch, in whatever process.

    Args:
        vectors: (N, D) or (D,) numbers (NumPy, torch, lists) of any length, or (N, k, D) of items of k vectors each; an
            `EmbeddingTable`, or the place of a table, of a `.npy` file, or of a folder of these. Rows of a table that belong to
            one row of its data file (`x#0`, `x#1`, …) are one item; of a table that does not know which do, those of such ids.
        config: of the run's model. user: the run, as a message names it.
        modality: the side of the adapter that they pass; without it, a table's own, and "image" for all else.
    Attributes:
        rows: as `open_vectors` gives them. single: whether one vector (D,) was given. spans: (N + 1,) where each item begins.
    Raises:
        MissingError: there is nothing. DataError: no such array, or a damaged table. UnknownNameError: no such modality.
        MismatchError: they are of another encoder or width than the run's; names both.
    """

    def __init__(self, vectors: Any, config: CloseConfig, user: str, modality: Modality | None = None) -> None:
        if modality not in (None, *get_args(Modality)):
            raise unknown_name("modality", str(modality), get_args(Modality))
        self.rows, self.single, together = _opened(vectors, modality, config.embed_dim)
        self._parts = self.rows.parts if isinstance(self.rows, EmbeddingTable) else None
        self.spans = _spans(self.rows, self._parts, together)
        self.has_sets = len(self) < len(self.rows)
        own: Modality | None = self.rows.modality if isinstance(self.rows, EmbeddingTable) else None
        self.modality: Modality = modality or own or "image"
        what = f"{self.rows.path}" if hasattr(self.rows, "path") else "the array"
        theirs = {"name": config.encoder, "fingerprint": config.encoder_fingerprint, "embed_dim": config.embed_dim}
        check_rows(what, self.rows, SimpleNamespace(**theirs), user)

    def __len__(self) -> int:
        return len(self.spans) - 1

    def name(self, item: int) -> str:
        """A table's id of the item; else its number, from 0."""
        first, last = self.spans[item : item + 2]
        if self.rows.ids is None:
            return str(item)
        name = str(self.rows.ids[first])
        several = last - first > 1 or (self._parts is not None and self._parts[first])
        return name.rpartition("#")[0] if several else name

    def batches(self, items: Sequence[int], batch_size: int) -> Iterator[Read]:
        """Unit rows of items and the errors of those that are none, batch by batch, as an encoder gives those of images."""
        files = [tuple(range(*self.spans[item : item + 2])) for item in items]
        yield from read_items(self._rows, files, batch_size)

    def _rows(self, rows: Sequence[int], batch_size: int) -> Iterator[tuple[Tensor, dict[int, CloseError]]]:
        for start in range(0, len(rows), batch_size):
            index = np.asarray(rows[start : start + batch_size], dtype=np.int64)
            try:
                yield torch.from_numpy(self._raw(index) if self.has_sets else self.rows[index]), {}
            except DataError:
                yield self._one_by_one(index)

    def _raw(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """With their raw lengths, which count in a mean, where those are known."""
        known = isinstance(self.rows, EmbeddingTable)
        rows: NDArray[np.float32] = self.rows.raw(self.rows.index[index]) if known else self.rows[index]
        return rows

    def _one_by_one(self, index: Any) -> tuple[Tensor, dict[int, CloseError]]:
        out, errors = torch.full((len(index), self.rows.shape[1]), torch.nan), dict[int, CloseError]()
        for place in range(len(index)):
            try:
                out[place] = torch.from_numpy(self.rows[index[place : place + 1]][0])
            except DataError as error:
                errors[place] = error
        return out, errors


def _spans(rows: Any, parts: NDArray[np.bool_] | None, together: int) -> NDArray[np.int64]:
    """Where each item begins among the rows, and where the last one ends."""
    if not isinstance(rows, EmbeddingTable):
        return np.arange(0, len(rows) + 1, together)
    starts = _by_ids(rows) if parts is None else _by_parts(rows, parts)
    return np.asarray([*starts, len(rows)], dtype=np.int64)


def _by_parts(rows: EmbeddingTable, parts: NDArray[np.bool_]) -> Sequence[int]:
    if not parts.any():
        return range(len(rows))
    starts, before = array("q"), None
    for place, is_part in enumerate(parts):
        name = rows.ids[place].rpartition("#")[0] if is_part else None
        if name is None or name != before:
            starts.append(place)
        before = name
    return starts


def _by_ids(rows: EmbeddingTable) -> Sequence[int]:
    """Of a table that does not know its parts: what may be rows of their own is told."""
    starts, name, number = array("q"), None, 0
    for place in range(len(rows)):
        own = rows.ids[place]
        if name is None or own != f"{name}#{number}":
            starts.append(place)
            name, number = own.removesuffix("#0") if own.endswith("#0") else None, 0
        number += 1
    if len(starts) < len(rows):
        _log.warning(
            "%s: %d rows are taken as %d items, since ids that end in #0, #1, … count as parts of one row; to keep them apart, "
            "give other ids, or make the table anew with `close embed`, which knows parts from rows",
            rows.path,
            len(rows),
            len(starts),
        )
    return starts


def _opened(vectors: Any, modality: Modality | None, width: int) -> tuple[Any, bool, int]:
    """Rows, whether one alone was given, and how many are an item; of an empty list, none of this width."""
    if isinstance(vectors, (str, Path)):
        is_table = (Path(vectors) / "table.json").is_file()  # whose own modality does not bind
        return open_vectors(vectors, None if is_table else modality), False, 1
    if isinstance(vectors, (EmbeddingTable, RowVectors)):
        return vectors, False, 1
    numbers = as_array(vectors, "vectors")
    if numbers.shape == (0,):
        numbers = numbers.reshape(0, width)
    if numbers.ndim not in (1, 2, 3) or numbers.dtype.kind not in "fiu" or not all(numbers.shape[1:]):
        what = (
            f"{numbers.dtype} of shape {numbers.shape}"
            if numbers.dtype != object
            else f"{type(vectors).__name__} of others"
        )
        raise DataError(f"vectors are (N, D), (D,) or (N, k, D) numbers, a table, or the place of one, not {what}")
    together = numbers.shape[1] if numbers.ndim == 3 else 1
    return RowVectors(numbers.reshape(-1, numbers.shape[-1]), "the array:"), numbers.ndim == 1, together
