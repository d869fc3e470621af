"""Means and covariances of arrays and of their pairs: all that most linear measures need, by `close.vectors.moments`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from close.errors import DataError
from close.vectors.checked import Array, Floats, Pairs, double_blocks, matrices, matrix, pair_blocks, pair_index
from close.vectors.moments import covariance, mean

__all__ = ["Moments", "PairMoments", "both_moments", "mean_row", "moments", "pair_moments", "paired"]


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
    return x.mean if isinstance(x, Moments) else mean(map(torch.from_numpy, double_blocks(x))).numpy()


def moments(x: Any) -> Moments:
    """Moments of (N, D) rows; a `Moments` comes back as it is."""
    if isinstance(x, Moments):
        return x
    rows = matrix(x, "rows")
    middle, scatter = covariance(map(torch.from_numpy, double_blocks(rows)))
    return Moments(len(rows), middle.numpy(), scatter.numpy())


def both_moments(text: Any, image: Any) -> tuple[Moments, Moments]:
    """Moments of (N, D) texts and (M, D) images; two `Moments` come back as they are.

    Raises:
        DataError: bad rows, named by their side.
        MismatchError: the widths differ.
    """
    if not (isinstance(text, Moments) and isinstance(image, Moments)):
        text, image = matrices(text, image)
    return moments(text), moments(image)


def pair_moments(text: Any, image: Any = None, pairs: Pairs = None) -> PairMoments:
    """Joint moments of paired rows; a `PairMoments` given as `text` comes back as it is.

    Raises:
        DataError: fewer than 2 pairs.
    """
    if isinstance(text, PairMoments):
        return text
    text, image, index = paired(text, image, pairs)
    dim, count = text.shape[1], len(index)
    both = (torch.from_numpy(np.hstack(block)) for block in pair_blocks(text, image, index))
    middle, scatter = (part.numpy() for part in covariance(both))
    t, v = slice(None, dim), slice(dim, None)
    return PairMoments(
        Moments(count, middle[t], scatter[t, t]), Moments(count, middle[v], scatter[v, v]), scatter[t, v]
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
