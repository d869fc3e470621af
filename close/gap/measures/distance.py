"""Distances between pairs, and all distances between rows in tiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from close.gap.measures.base import MEASURES, Family, Interval, Measure
from close.gap.modalities import Modalities, pair_distances
from close.vectors.checked import Array, Pairs
from close.vectors.second_moments import paired

__all__ = ["cross_distances", "pair_distance", "within_distances"]

TILE = 2048


def pair_distance(text: Any, image: Any, pairs: Pairs = None) -> float:
    """Mean ‖v_i − t_i‖ over the pairs.

    Linear and exact. Healthy: 0 is perfect; CLIP has 1.1–1.25, as far apart as orthogonal vectors (1.41) nearly are.
    """
    text, image, index = paired(text, image, pairs)
    return float(pair_distances(text, image, index).mean())


@MEASURES.register(
    Measure(
        "pair_distance",
        Family.DISTANCE,
        "Pair distance",
        "mean ‖v − t‖",
        "under 0.8; CLIP 1.1–1.25; unrelated 1.41",
        high=0.8,
        interval=Interval(lambda drawn: drawn.pair_mean(drawn.data.pair_distances)),
        misleads="Where all rows lie in one narrow cone it is small for strangers too: read it beside their cosine.",
        source="elementary",
    )
)
def _pair_distance(data: Modalities, seed: int) -> float:
    return pair_distance(data.text, data.image, data.pairing)


def cross_distances(x: Array, y: Array) -> Iterator[Array]:
    """All squared distances ‖x_i − y_j‖² in tiles of float32."""
    for i in range(0, len(x), TILE):
        for j in range(0, len(y), TILE):
            yield _tile(x[i : i + TILE], y[j : j + TILE])


def within_distances(x: Array) -> Iterator[Array]:
    """All squared distances ‖x_i − x_j‖², i < j, each once, in parts of float32."""
    for i in range(0, len(x), TILE):
        rows = x[i : i + TILE]
        yield _tile(rows, rows)[np.triu_indices(len(rows), 1)]
        for j in range(i + TILE, len(x), TILE):
            yield _tile(rows, x[j : j + TILE])


def _tile(x: Array, y: Array) -> Array:
    x, y = x.astype(np.float32, copy=False), y.astype(np.float32, copy=False)
    squared = x @ y.T
    squared *= -2
    squared += (x**2).sum(axis=1)[:, None]
    squared += (y**2).sum(axis=1)
    return np.maximum(squared, 0, out=squared)
