"""Rows as adapters learn from them: of unit length, checked as they are read, or seen through the stages before."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from close.data.rows import Modality
from close.errors import DataError, MismatchError
from close.vectors.blocks import as_tensor, blocks
from close.vectors.checked import as_array, refuse_bad_rows
from close.vectors.open import RowVectors

__all__ = ["Adapted", "Checked", "check_shape", "different_rows", "matrix_of", "unit_rows", "unit_tensor"]


def unit_rows(rows: Any, where: str) -> Any:
    """Arrays, tensors, lists and data frames as unit rows; of tables they are, and what a stage makes of rows stays as it is.

    Args:
        where: what messages begin with.
    Raises:
        DataError: no numbers, or see `as_array`.
    """
    if not (isinstance(rows, (np.ndarray, Tensor, list, tuple)) or hasattr(rows, "to_numpy")):
        return rows
    found = as_array(rows, where.removesuffix(":"))
    if found.dtype.kind not in "fiu":
        raise DataError(f"{where.removesuffix(':')}: expected numbers, got {found.dtype}")
    return RowVectors(found, where)


def check_shape(rows: Any, dim: int, what: str) -> None:
    """Refuse what is no (N, dim) array, tensor or table.

    Args:
        what: how messages name it.
    Raises:
        DataError: it has no shape, or not that of a matrix. MismatchError: it has another width.
    """
    if not hasattr(rows, "shape"):
        raise DataError(f"{what} are a (N, {dim}) array, tensor, list or embedding table, not {type(rows).__name__}")
    if len(rows.shape) != 2:
        raise DataError(f"{what} are (N, D), not {tuple(rows.shape)}")
    if rows.shape[1] != dim:
        raise MismatchError(f"{what} have {rows.shape[1]} columns, expected {dim}")


def matrix_of(rows: Any, dim: int, where: str) -> Tensor:
    """(N, dim) unit rows of an array or a table, as `fit` reads them; raises what `check_shape` does, and for bad rows."""
    found = unit_rows(rows, f"{where}:")
    check_shape(found, dim, f"{where}: embeddings")
    return as_tensor(found[:])


def unit_tensor(x: Tensor, dim: int, where: str) -> Tensor:
    """(N, dim) unit rows of a tensor: those that are already, or zero, as sets are filled up, stay to the bit.

    Values are looked at on the CPU alone: an accelerator would be waited for, and what `torch.compile` and `torch.export` make
    has none.

    Raises:
        DataError: it is no matrix, or a row is not finite. MismatchError: it has another width.
    """
    check_shape(x, dim, f"{where}: embeddings")
    x = x if x.is_floating_point() else x.float()
    if x.is_meta:
        return x
    norms = x.detach().float().norm(dim=-1)
    fine = ((norms - 1).abs() < (1e-3 if x.dtype in (torch.float32, torch.float64) else 1e-2)) | (norms == 0)
    if x.is_cpu and not torch.compiler.is_compiling():
        if bool(fine.all()):
            return x
        refuse_bad_rows(norms[~fine].cpu().numpy(), torch.nonzero(~fine)[:, 0].cpu().numpy(), f"{where}:")
    return torch.where(fine[:, None], x, F.normalize(x, dim=-1))


def different_rows(rows: Any, enough: int) -> int:
    """How many different rows there are, counted up to `enough`: an image beside each of its captions is one."""
    seen: set[bytes] = set()
    for block in blocks(rows):
        if len(seen) >= enough:
            break
        kept = block.detach().cpu().numpy().round(5) + 0.0  # stages may part copies by a bit
        seen.update(row.tobytes() for row in kept)
    return len(seen)


class Checked:
    """Rows that must be finite and not zero, checked block by block as they are read."""

    def __init__(self, rows: Any, side: Modality, adapter: str, groups: Any = None) -> None:
        self.rows, self.side, self.adapter, self.groups = rows, side, adapter, groups

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return tuple(self.rows.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        x = as_tensor(self.rows[index]).cpu()
        refuse_bad_rows(x.detach().norm(dim=-1).numpy(), index, f"adapter {self.adapter!r}: {self.side}")
        return x


class Adapted:
    """Embeddings seen through a stage, block by block: what the next stage of a chain is fitted on."""

    def __init__(self, rows: Any, stage: Any, side: Modality) -> None:
        self.rows, self.stage, self.side = rows, stage, side
        self.shape, self.ids = rows.shape, getattr(rows, "ids", None)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> Tensor:
        x = self.stage.side(as_tensor(self.rows[index]), self.side)
        return F.normalize(x, dim=-1) if self.stage.renorm else x
