"""Means and covariances of any number of rows, streamed in float64.

Every function takes an iterable of blocks, such as `blocks(table)`, or `(v - t for t, v in paired_blocks(text, image))`, and
holds one block and the result. Co-moments of blocks are merged by the pairwise update of Chan, Golub and LeVeque (1983), which
does not cancel where the mean is large against the spread. Variances and covariances divide by n − 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from close.errors import DataError
from close.vectors.blocks import blocks

__all__ = ["covariance", "cross_covariance", "mean", "oas", "paired_blocks", "symmetric_power", "variance"]


def paired_blocks(text: Any, image: Any, size: int = 8192) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of two tables of equal length, side by side."""
    return zip(blocks(text, size), blocks(image, size), strict=True)


def mean(rows: Iterable[Tensor]) -> Tensor:
    """The mean, (D,) float64.

    Raises:
        DataError: there is no row.
    """
    total, count = torch.zeros((), dtype=torch.float64), 0
    for block in rows:
        total = total + block.sum(0, dtype=torch.float64)
        count += len(block)
    if not count:
        raise DataError("no rows to take a mean of")
    return total / count


def variance(rows: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and per-dimension variance, both (D,) float64.

    Raises:
        DataError: there are fewer than 2 rows.
    """
    middle, _, scatter = _comoments(((x, x) for x in rows), lambda x, y: (x * y).sum(0))
    return middle, scatter


def covariance(rows: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D), float64.

    Raises:
        DataError: there are fewer than 2 rows.
    """
    middle, _, scatter = _comoments(((x, x) for x in rows), lambda x, y: x.T @ y)
    return middle, scatter


def cross_covariance(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Means (D,), (E,) and cross-covariance (D, E) of rows that come in pairs, float64.

    Raises:
        DataError: there are fewer than 2 pairs.
    """
    return _comoments(pairs, lambda x, y: x.T @ y)


def _comoments(
    pairs: Iterable[tuple[Tensor, Tensor]], product: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    mean_x = mean_y = scatter = torch.zeros((), dtype=torch.float64)
    count = 0
    for block_x, block_y in pairs:
        x, middle_x = _centred(block_x)
        y, middle_y = (x, middle_x) if block_y is block_x else _centred(block_y)
        step_x, step_y, new = middle_x - mean_x, middle_y - mean_y, len(x)
        within = product(x, y)
        between = product(step_x[None], step_y[None]) * (count * new / (count + new))
        count += new
        mean_x, mean_y = mean_x + step_x * (new / count), mean_y + step_y * (new / count)
        scatter = scatter + within + between
    if count < 2:
        raise DataError(f"{count} rows, at least 2 are needed for a variance")
    return mean_x, mean_y, scatter / (count - 1)


def _centred(block: Tensor) -> tuple[Tensor, Tensor]:
    x = block.double()
    middle = x.mean(0)
    return x - middle, middle


def oas(matrix: Tensor, rows: int) -> float:
    """The share λ of (Tr Σ/d)·I to mix into a covariance of so many rows: oracle approximating shrinkage (Chen et al., 2010).

    Args:
        matrix: (D, D) the sample covariance.
    """
    even = matrix.diagonal().mean().square()
    spread = matrix.square().mean()
    apart = (rows + 1) * (spread - even / len(matrix))
    return 1.0 if apart <= 0 else min(1.0, float((spread + even) / apart))


def symmetric_power(matrix: Tensor, power: float) -> Tensor:
    """A power of a positive semi-definite matrix; negative powers are those of the pseudo-inverse.

    Directions whose eigenvalue is below 1e-12 of the largest are rounding of float32 rows, and count as zero.

    Args:
        matrix: (D, D) float64.
    """
    values, vectors = torch.linalg.eigh(matrix)
    powered = torch.where(values > 1e-12 * values[-1], values.clamp(min=1e-300).pow(power), 0.0)
    return (vectors * powered) @ vectors.T
