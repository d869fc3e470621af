"""Vectors of a run's encoder as what a captioner is given: a table, a `.npy`, or an array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from close.data.rows import Modality
from close.errors import CloseError, DataError
from close.model.configuration import CloseConfig
from close.registry import unknown_name
from close.vectors.open import RowVectors, check_rows, open_vectors
from close.vectors.table import EmbeddingTable

__all__ = ["VectorItems"]


class VectorItems:
    """Vectors whose items are row numbers; read batch by batch, in whatever process.

    Args:
        vectors: (N, D) or (D,) numbers (NumPy, torch, lists) of any length, an `EmbeddingTable`, or the place of a table, of a
            `.npy` file, or of a folder of these.
        config: of the run's model. user: the run, as a message names it.
        modality: the side of the adapter that they pass; without it, a table's own, and "image" for all else.
    Attributes:
        rows: as `open_vectors` gives them. single: whether one vector (D,) was given.
    Raises:
        MissingError: there is nothing. DataError: no such array, or a damaged table. UnknownNameError: no such modality.
        MismatchError: they are of another encoder or width than the run's; names both.
    """

    def __init__(self, vectors: Any, config: CloseConfig, user: str, modality: Modality | None = None) -> None:
        if modality not in (None, *get_args(Modality)):
            raise unknown_name("modality", str(modality), get_args(Modality))
        self.rows, self.single = _opened(vectors, modality)
        own: Modality | None = self.rows.modality if isinstance(self.rows, EmbeddingTable) else None
        self.modality: Modality = modality or own or "image"
        what = f"{self.rows.path}" if hasattr(self.rows, "path") else "the array"
        theirs = {"name": config.encoder, "fingerprint": config.encoder_fingerprint, "embed_dim": config.embed_dim}
        check_rows(what, self.rows, SimpleNamespace(**theirs), user)

    def name(self, row: int) -> str:
        """A table's id of the row; else its number, from 0."""
        return str(self.rows.ids[row] if self.rows.ids is not None else row)

    def batches(self, rows: Sequence[int], batch_size: int) -> Iterator[tuple[Tensor, dict[int, CloseError]]]:
        """(B, D) unit rows and the errors of those that are none, batch by batch, as an encoder gives those of images."""
        for start in range(0, len(rows), batch_size):
            index = np.asarray(rows[start : start + batch_size], dtype=np.int64)
            try:
                yield torch.from_numpy(self.rows[index]), {}
            except DataError:
                yield self._one_by_one(index)

    def _one_by_one(self, index: Any) -> tuple[Tensor, dict[int, CloseError]]:
        out, errors = torch.full((len(index), self.rows.shape[1]), torch.nan), dict[int, CloseError]()
        for place in range(len(index)):
            try:
                out[place] = torch.from_numpy(self.rows[index[place : place + 1]][0])
            except DataError as error:
                errors[place] = error
        return out, errors


def _opened(vectors: Any, modality: Modality | None) -> tuple[Any, bool]:
    """Rows, and whether one alone was given."""
    if isinstance(vectors, (str, Path)):
        is_table = (Path(vectors) / "table.json").is_file()  # whose own modality does not bind
        return open_vectors(vectors, None if is_table else modality), False
    if isinstance(vectors, (EmbeddingTable, RowVectors)):
        return vectors, False
    if isinstance(vectors, Tensor):
        vectors = vectors.detach().to("cpu", torch.float32).numpy()
    try:
        array = np.asarray(vectors)
    except ValueError:  # rows of several lengths
        array = np.empty(0, object)
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or not array.shape[-1]:
        what = (
            f"{array.dtype} of shape {array.shape}" if array.dtype != object else f"{type(vectors).__name__} of others"
        )
        raise DataError(f"vectors are (N, D) or (D,) numbers, a table, or the place of one, not {what}")
    return RowVectors(array.reshape(-1, array.shape[-1]), "the array:"), array.ndim == 1
