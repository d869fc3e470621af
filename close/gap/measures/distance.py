"""Distances between pairs, between modalities relative to their size, and uniformity on the sphere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from close.gap.measures.cosine import paired_cosine, within_cosine
from close.gap.measures.moments import Moments, paired
from close.vectors.checked import Array, Floats, Ints, Pairs, distinct_rows, matrices, matrix, pair_blocks, pair_index

__all__ = ["alignment", "cross_uniformity", "pair_distance", "relative_gap", "uniformity"]

TILE = 2048


def pair_distance(text: Any, image: Any, pairs: Pairs = None) -> float:
    """Mean ‖v_i − t_i‖ over the pairs.

    Linear and exact. Healthy: 0 is perfect; CLIP has 1.1–1.25, as far apart as orthogonal vectors (1.41) nearly are.
    """
    text, image, index = paired(text, image, pairs)
    return float(pair_distances(text, image, index).mean())


def alignment(text: Any, image: Any, pairs: Pairs = None) -> float:
    """Mean ‖v_i − t_i‖² over the pairs (Wang & Isola, ICML 2020).

    Linear and exact; for unit rows 2 − 2 · paired cosine. Healthy: low; CLIP has 1.3–1.5, of which ‖Δ‖² is the gap's own part.
    """
    text, image, index = paired(text, image, pairs)
    return float((pair_distances(text, image, index) ** 2).mean())


def relative_gap(text: Any, image: Any, pairs: Pairs = None, *, moment: tuple[Moments, Moments] | None = None) -> float:
    """Relative modality gap a/(a + (b + c)/2) (Role et al., 2025).

    a is the mean of (1 − v_i·t_i)/2 over the pairs (1e-3 where it is ≤ 0, as its authors do); b and c are the means of
    (1 − cos)/2 over i ≠ j inside the *different* images and inside the texts. Linear and exact on unit rows.

    Healthy: near 0 pairs are far closer than strangers of one modality; .5 as far; CLIP has .5–.65.

    Args:
        moment: moments of both sides, where they are known already and the images are all different.
    """
    text, image, index = paired(text, image, pairs)
    different = image if moment else image[distinct_rows(image)[0]]
    t, v = moment or (None, None)
    return relative(
        paired_cosine(text, image, index).mean,
        within_cosine(different, moment=v).mean,
        within_cosine(text, moment=t).mean,
    )


def relative(pair_cosine: Any, image_cosine: Any, text_cosine: Any) -> Any:
    """The relative modality gap from three mean cosines (numbers or arrays)."""
    between = np.where(pair_cosine < 1, (1 - pair_cosine) / 2, 1e-3)
    within = (1 - image_cosine) / 4 + (1 - text_cosine) / 4
    ratio = between / (between + within)
    return ratio if np.ndim(ratio) else float(ratio)


def uniformity(x: Any) -> float:
    """log mean_{i≠j} exp(−2‖x_i − x_j‖²) inside one modality (Wang & Isola, 2020).

    Quadratic, in tiles. Healthy: low, −3.5 to −4 on a wide sphere; 0 is collapse; CLIP has −1.5 to −2.2.
    """
    rows = matrix(x, "rows")
    total = sum(float(np.exp(-2 * part).sum(dtype=np.float64)) for part in within_distances(rows))
    return float(np.log(2 * total / (len(rows) * (len(rows) - 1))))


def cross_uniformity(text: Any, image: Any, pairs: Pairs = None) -> float:
    """log mean exp(−2‖v_i − t_j‖²) over texts and images that are not a pair ("unpaired": over all).

    Quadratic, in tiles. Healthy: low; when it is below both `uniformity` values, strangers of the other modality are further
    away than strangers of one's own, which is the gap.
    """
    text, image = matrices(text, image)
    index = pair_index(pairs, len(text), len(image))
    total = sum(float(np.exp(-2 * part).sum(dtype=np.float64)) for part in cross_distances(text, image))
    total -= float(np.exp(-2 * pair_distances(text, image, index) ** 2).sum())
    return float(np.log(total / (len(text) * len(image) - len(index))))


def pair_distances(text: Any, image: Any, pairs: Ints) -> Floats:
    """(P,) distances ‖v_i − t_i‖ of the pairs."""
    parts = [np.linalg.norm(v - t, axis=1) for t, v in pair_blocks(text, image, pairs)]
    return np.concatenate(parts) if parts else np.empty(0)


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
