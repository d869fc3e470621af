"""Where the two modalities lie, and whether the way between them is one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from close.errors import DataError, counted
from close.gap.measures.base import MEASURES, Family, Interval, Measure
from close.gap.modalities import Modalities
from close.gap.resample import square_length
from close.vectors.checked import Pairs, matrices
from close.vectors.second_moments import Moments, mean_row, paired

__all__ = ["Constancy", "centroid_gap", "constancy"]


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


@MEASURES.register(
    Measure(
        "centroid_gap",
        Family.DISTANCE,
        "Centroid gap",
        "‖μ_v − μ_t‖",
        "under 0.1; CLIP models 0.7–1.1",
        high=0.1,
        scale=(0.0, 1.4),
        interval=Interval(lambda drawn: np.sqrt(square_length(drawn.gap)), square=True),
        source="Liang et al., NeurIPS 2022",
        misleads="Clouds of one mean and different shapes read 0, and so do those that are only turned against "
        "each other.",
    )
)
def _centroid_gap(data: Modalities, seed: int) -> float:
    return centroid_gap(*data.moments)


def constancy(text: Any, image: Any, pairs: Pairs = None, *, size: int = 100, seed: int = 0) -> Constancy:
    """Whether the gap is one constant vector, orthogonal to what varies inside a modality (Zhang et al., ICLR 2023).

    Pairs are put at random into groups of `size`, each with its mean gap Δ_g = mean(v_i − t_i):

    - length_cv: standard deviation of ‖Δ_g‖ over its mean;
    - direction_cosine: mean cosine of Δ_g with the mean Δ of all pairs;
    - orthogonality: mean |cos(x_i − x_j, Δ)| over random differences inside the texts and inside the images, both counted alike.

    Linear and exact for the given seed. Healthy: length_cv under .05, direction_cosine over .95, orthogonality near that of
    random directions, √(2/(πD)): then one shift closes the gap for everybody.

    Raises:
        DataError: fewer than two groups of pairs, no gap, or all rows of a side alike. RecipeError: size is none.
    """
    counted(size, "size")
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


@MEASURES.register(
    Measure(
        "constancy.length_cv",
        Family.VECTOR,
        "Length varies",
        "sd/mean of ‖Δ‖, groups of 100",
        "under 0.05",
        high=0.05,
        source="Zhang et al., ICLR 2023",
        misleads="Means of 100 pairs are steady although the gaps of single pairs scatter widely.",
    ),
    Measure(
        "constancy.direction_cosine",
        Family.VECTOR,
        "Direction agrees",
        "mean cos(Δ_group, Δ)",
        "over 0.95",
        low=0.95,
        source="Zhang et al., ICLR 2023",
        misleads="Means of 100 pairs point one way although the gaps of single pairs do not.",
    ),
    Measure(
        "constancy.orthogonality",
        Family.VECTOR,
        "Leans on content",
        "mean |cos(x − x′, Δ)|",
        "under 0.1; random √(2/πD)",
        high=0.1,
        source="Zhang et al., ICLR 2023",
        misleads="In many dimensions anything is nearly orthogonal to anything: compare with √(2/πD), which is chance.",
    ),
)
def _constancy(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(constancy(data.text, data.image, data.pairing, seed=seed))


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
    every = np.concatenate(cosines)
    if not len(every):
        raise DataError("all rows of one side are the same vector, which lean nowhere")
    return float(every.mean())
