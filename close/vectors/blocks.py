"""Rows of any table, one block in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_tensor", "blocks"]


def as_tensor(x: Any) -> Tensor:
    """As float32, without a copy where it is so already."""
    return x.float() if isinstance(x, Tensor) else torch.tensor(np.asarray(x, dtype=np.float32))


def blocks(rows: Any, size: int = 8192) -> Iterator[Tensor]:
    """The rows of an array, tensor, memory map or table as (≤ size, dim) float32 tensors, one block in memory at a time."""
    for start in range(0, len(rows), size):
        yield as_tensor(rows[start : start + size])
