"""Where the two modalities lie and how wide each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from close.errors import DataError
from close.gap.measures.moments import Moments, mean_row, moments, paired
from close.vectors.checked import Pairs, matrices

__all__ = ["Cone", "Constancy", "DimensionGap", "centroid_gap", "cone", "constancy", "dimension_gap", "trace_ratio"]


@dataclass(frozen=True)
class Cone:
    """Norms of the two mean vectors."""

    text: float
    image: float


@dataclass(frozen=True)
class DimensionGap:
    """How the gap and the spread are shared among dimensions."""

    top10_gap_share: float
    std_ratio_median: float


@dataclass(frozen=True)
class Constancy:
    """How nearly the gap is one and the same vector everywhere."""

    length_cv: float
    direction_cosine: float
    orthogonality: float


def centroid_gap(text: Any, image: Any) -> float:
    """‖Δ‖ with Δ = μ_v − μ_t, the distance between the mean image and the mean text (Liang et al., NeurIPS 2022).

    Linear and exact. Healthy: 0 is no gap; CLIP models lie between .7 and 1.1; two random halves of one modality at
    √(Tr Σ · (1/N + 1/M)).
    """
    if not isinstance(text, Moments):
        text, image = matrices(text, image)
    return float(np.linalg.norm(mean_row(image) - mean_row(text)))


def cone(text: Any, image: Any) -> Cone:
    """‖μ_t‖ and ‖μ_v‖: how narrow a cone each modality fills (Liang et al., 2022).

    Linear and exact. Healthy: near 0 the vectors point everywhere; CLIP's .5–.8 means narrow cones.
    """
    if not isinstance(text, Moments):
        text, image = matrices(text, image)
    return Cone(float(np.linalg.norm(mean_row(text))), float(np.linalg.norm(mean_row(image))))


def trace_ratio(text: Any, image: Any) -> float:
    """√(Tr Σ_v / Tr Σ_t): the scale s by which ReAlign spreads text to match images.

    Linear and exact. Healthy: near 1, one modality spreads as far as the other.
    """
    t, v = moments(text), moments(image)
    if t.total == 0:
        raise DataError("the texts have no variance")
    return float(np.sqrt(v.total / t.total))


def dimension_gap(text: Any, image: Any) -> DimensionGap:
    """Share of Σ_k|Δ_k| held by the 10 largest |Δ_k|, and the median over dimensions of σ_v/σ_t (Schrodi et al., ICLR 2025).

    Linear and exact; dimensions in which the texts are constant are left out of the median. Healthy: the share near that of
    D equal dimensions, 10/D, up to about three times that; a few dimensions that hold the gap are better shifted than noised.
    The ratio near 1.
    """
    t, v = moments(text), moments(image)
    gap = np.sort(np.abs(v.mean - t.mean))[::-1]
    spread = t.cov.diagonal() > 0
    if not spread.any() or not gap.any():
        raise DataError("the gap is exactly zero, or the texts have no variance")
    ratio = np.sqrt(v.cov.diagonal()[spread] / t.cov.diagonal()[spread])
    return DimensionGap(float(gap[:10].sum() / gap.sum()), float(np.median(ratio)))


def constancy(text: Any, image: Any, pairs: Pairs = None, *, size: int = 100, seed: int = 0) -> Constancy:
    """Whether the gap is one constant vector, orthogonal to what varies inside a modality (Zhang et al., ICLR 2023).

    Pairs are put at random into groups of `size`, each with its mean gap Δ_g = mean(v_i − t_i):

    - length_cv: standard deviation of ‖Δ_g‖ over its mean;
    - direction_cosine: mean cosine of Δ_g with the mean Δ of all pairs;
    - orthogonality: mean |cos(x_i − x_j, Δ)| over random differences inside the texts and inside the images, both counted alike.

    Linear and exact for the given seed. Healthy: length_cv under .05, direction_cosine over .95, orthogonality near that of
    random directions, √(2/(πD)): then one shift closes the gap for everybody.

    Raises:
        DataError: fewer than two groups of pairs, or no gap.
    """
    text, image, index = paired(text, image, pairs)
    groups = len(index) // size
    if groups < 2:
        raise DataError(f"needs at least {2 * size} pairs (two groups of {size}); there are {len(index)}")
    rng = np.random.default_rng(seed)
    index = rng.permutation(index)
    gaps = np.stack(
        [mean_row(image[g[:, 1]]) - mean_row(text[g[:, 0]]) for g in np.split(index[: groups * size], groups)]
    )
    delta = gaps.mean(axis=0)
    lengths, length = np.linalg.norm(gaps, axis=1), np.linalg.norm(delta)
    if length < 1e-12:
        raise DataError("the gap is exactly zero and has no direction")
    cosines = gaps @ delta / (lengths * length)
    apart = [_turned(rows, delta / length, rng) for rows in (text, image)]
    return Constancy(float(lengths.std() / lengths.mean()), float(cosines.mean()), float(np.mean(apart)))


def _turned(rows: Any, direction: Any, rng: np.random.Generator) -> float:
    """Mean |cosine| between random differences of rows and a direction; equal rows have no difference and are left out."""
    order = rng.permutation(len(rows))
    cosines = []
    for start in range(0, len(order), 4096):
        here = order[start : start + 4096]
        there = np.take(order, np.arange(start + 1, start + 1 + len(here)), mode="wrap")
        apart = rows[here].astype(np.float64) - rows[there]
        norms = np.linalg.norm(apart, axis=1)
        cosines.append(np.abs(apart @ direction)[norms > 0] / norms[norms > 0])
    return float(np.concatenate(cosines).mean())
