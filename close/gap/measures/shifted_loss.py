"""The contrastive loss as the gap is closed and turned over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from close.errors import RecipeError, counted, shown
from close.gap.modalities import distinct_pairs
from close.vectors.checked import Array, Floats, Pairs
from close.vectors.second_moments import mean_row, paired

__all__ = ["ShiftedLoss", "shifted_loss"]

SHIFTS = tuple(round(-0.5 + 0.125 * step, 3) for step in range(17))


@dataclass(frozen=True)
class ShiftedLoss:
    """One point per shift: the share of the gap taken away, the centroid gap that remains, the contrastive loss."""

    shift: tuple[float, ...]
    gap: tuple[float, ...]
    loss: tuple[float, ...]


def shifted_loss(
    text: Any,
    image: Any,
    pairs: Pairs = None,
    *,
    shifts: Sequence[float] = SHIFTS,
    temperature: float = 0.01,
    sample: int = 2000,
    seed: int = 0,
) -> ShiftedLoss:
    """Symmetric contrastive loss against a shift along Δ (Liang et al., NeurIPS 2022, section 4.2).

    Both modalities move by half of λΔ towards each other, t + λΔ/2 and v − λΔ/2, and go back onto the sphere: λ = 0 leaves them,
    λ = 1 closes the gap. The loss is the mean of both directions' cross-entropy among `sample` pairs drawn with `seed` (all, if
    there are fewer; one caption an image, and one image a caption).

    Healthy: flat or lowest at λ = 0 says that the encoder has put the gap there; a minimum elsewhere, that a shift helps.

    Raises:
        RecipeError: no shift, a temperature that is not above 0, or a sample of fewer than 2.
    """
    counted(sample, "sample", 2)
    if not len(shifts) or not temperature > 0:
        raise RecipeError(f"shifts are numbers, one at least, and the temperature is above 0, not {shown(temperature)}")
    text, image, index = paired(text, image, pairs)
    index = distinct_pairs(index)
    if len(index) > sample:
        index = index[np.sort(np.random.default_rng(seed).choice(len(index), sample, replace=False))]
    half = (mean_row(image) - mean_row(text)) / 2
    texts, images = text[index[:, 0]].astype(np.float64), image[index[:, 1]].astype(np.float64)
    points = []
    for shift in shifts:
        t, v = _unit(texts + shift * half), _unit(images - shift * half)
        points.append((float(shift), float(np.linalg.norm(v.mean(axis=0) - t.mean(axis=0))), _loss(t, v, temperature)))
    return ShiftedLoss(*zip(*points, strict=True))


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _loss(text: Floats, image: Floats, temperature: float) -> float:
    logits = (text @ image.T) / temperature
    own = logits.diagonal().mean()
    return float((_logsumexp(logits).mean() + _logsumexp(logits.T).mean()) / 2 - own)


def _logsumexp(logits: Array) -> Array:
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
