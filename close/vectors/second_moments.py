"""Means and covariances: all that most linear measures need, gathered in float64, block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from close.errors import DataError
from close.vectors.checked import Array, Floats, Pairs, double_blocks, matrices, matrix, pair_blocks, pair_index

__all__ = ["Moments", "PairMoments", "moments", "pair_moments"]


@dataclass(frozen=True)
class Moments:
    """First and second moments of N rows.

    Attributes:
        count: N.
        mean: (D,).
        cov: (D, D) covariance, divisor N − 1.
    """

    count: int
    mean: Floats
    cov: Floats

    @property
    def second(self) -> Floats:
        """(D, D) mean of x xᵀ, not centred."""
        return self.cov * ((self.count - 1) / self.count) + np.outer(self.mean, self.mean)

    @property
    def total(self) -> float:
        """Trace of the covariance."""
        return float(np.trace(self.cov))


@dataclass(frozen=True)
class PairMoments:
    """Moments of P paired texts and images; `cross` is their (D, D) covariance, text by image, divisor P − 1."""

    text: Moments
    image: Moments
    cross: Floats

    @property
    def count(self) -> int:
        """P."""
        return self.text.count

    @property
    def second(self) -> Floats:
        """(D, D) mean of t vᵀ, not centred."""
        return self.cross * ((self.count - 1) / self.count) + np.outer(self.text.mean, self.image.mean)


def mean_row(x: Any) -> Floats:
    """(D,) mean of the rows in float64."""
    if isinstance(x, Moments):
        return x.mean
    return np.asarray(sum(block.sum(axis=0) for block in double_blocks(x)) / len(x))


def moments(x: Any) -> Moments:
    """Moments of (N, D) rows in two passes; a `Moments` comes back as it is."""
    if isinstance(x, Moments):
        return x
    rows = matrix(x, "rows")
    mean = mean_row(rows)
    gram = np.zeros((len(mean), len(mean)))
    for block in double_blocks(rows):
        block -= mean
        gram += block.T @ block
    return Moments(len(rows), mean, gram / (len(rows) - 1))


def pair_moments(text: Any, image: Any = None, pairs: Pairs = None) -> PairMoments:
    """Joint moments of paired rows in two passes; a `PairMoments` given as `text` comes back as it is.

    Raises:
        DataError: fewer than 2 pairs.
    """
    if isinstance(text, PairMoments):
        return text
    text, image, index = paired(text, image, pairs)
    dim, count = text.shape[1], len(index)
    mean = np.zeros(2 * dim)
    for t, v in pair_blocks(text, image, index):
        mean += np.concatenate((t.sum(axis=0), v.sum(axis=0)))
    mean /= count
    gram = np.zeros((2 * dim, 2 * dim))
    for t, v in pair_blocks(text, image, index):
        both = np.hstack((t, v)) - mean
        gram += both.T @ both
    gram /= count - 1
    return PairMoments(
        Moments(count, mean[:dim], gram[:dim, :dim]), Moments(count, mean[dim:], gram[dim:, dim:]), gram[:dim, dim:]
    )


def paired(text: Any, image: Any, pairs: Pairs) -> tuple[Array, Array, Any]:
    """Both sides, checked, and at least 2 pairs of them.

    Raises:
        DataError: fewer than 2 pairs, or bad rows.
        MismatchError: widths differ, or lengths where pairing is by row.
    """
    text, image = matrices(text, image)
    index = pair_index(pairs, len(text), len(image))
    if len(index) < 2:
        raise DataError(f"needs pairs of text and image, at least 2; there are {len(index)}")
    return text, image, index
