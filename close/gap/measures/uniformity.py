"""Alignment of pairs and uniformity on the sphere (Wang & Isola, ICML 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np

from close.errors import DataError
from close.gap.measures.base import MEASURES, Family, Interval, Measure
from close.gap.measures.distance import cross_distances, within_distances
from close.gap.modalities import Modalities, pair_distances
from close.gap.resample import Side
from close.vectors.checked import Pairs, matrices, matrix, pair_index
from close.vectors.second_moments import paired

__all__ = ["alignment", "cross_uniformity", "uniformity"]

SOURCE = "Wang & Isola, ICML 2020"


def alignment(text: Any, image: Any, pairs: Pairs = None) -> float:
    """Mean ‖v_i − t_i‖² over the pairs (Wang & Isola, ICML 2020).

    Linear and exact; 2 − 2 · paired cosine. Healthy: low; CLIP has 1.3–1.5, of which ‖Δ‖² is the gap's own part.
    """
    text, image, index = paired(text, image, pairs)
    return float((pair_distances(text, image, index) ** 2).mean())


@MEASURES.register(
    Measure(
        "alignment",
        Family.DISTANCE,
        "Alignment",
        "mean ‖v − t‖²",
        "under 0.8; CLIP 1.3–1.5",
        high=0.8,
        interval=Interval(lambda drawn: drawn.pair_square),
        source=SOURCE,
        misleads="All rows at one point are aligned perfectly, and say nothing: read it beside uniformity.",
    )
)
def _alignment(data: Modalities, seed: int) -> float:
    return alignment(data.text, data.image, data.pairing)


def uniformity(x: Any) -> float:
    """log mean_{i≠j} exp(−2‖x_i − x_j‖²) inside one modality (Wang & Isola, 2020).

    Quadratic, in tiles. Healthy: low, −3.5 to −4 on a wide sphere; 0 is collapse; CLIP has −1.5 to −2.2.
    """
    rows = matrix(x, "rows")
    total = sum(float(np.exp(-2 * part).sum(dtype=np.float64)) for part in within_distances(rows))
    return float(np.log(2 * total / (len(rows) * (len(rows) - 1))))


def _declared(side: Side, letter: str) -> Measure:
    return Measure(
        f"uniformity.{side}",
        Family.CLOUDS,
        f"Uniformity, {side}s",
        f"log mean exp(−2‖{letter} − {letter}′‖²)",
        "under −2.5; CLIP −1.5 to −2.2",
        high=-2.5,
        sample=(side,),
        source=SOURCE,
        misleads="The nearest pairs rule it: copies of a few rows raise it, whatever the others do.",
    )


@MEASURES.register(_declared("text", "t"))
def _uniformity_of_texts(data: Modalities, seed: int) -> float:
    return uniformity(data.text)


@MEASURES.register(_declared("image", "v"))
def _uniformity_of_images(data: Modalities, seed: int) -> float:
    return uniformity(data.image)


def cross_uniformity(text: Any, image: Any, pairs: Pairs = None) -> float:
    """log mean exp(−2‖v_i − t_j‖²) over texts and images that are not a pair ("unpaired": over all).

    Quadratic, in tiles. Healthy: low; when it is below both `uniformity` values, strangers of the other modality are further
    away than strangers of one's own, which is the gap.

    Raises:
        DataError: every text is paired with every image.
    """
    text, image = matrices(text, image)
    index = pair_index(pairs, len(text), len(image))
    if len(index) == len(text) * len(image):
        raise DataError("there is nothing to compare: every text is paired with every image")
    total = sum(float(np.exp(-2 * part).sum(dtype=np.float64)) for part in cross_distances(text, image))
    total -= float(np.exp(-2 * pair_distances(text, image, index) ** 2).sum())
    return float(np.log(total / (len(text) * len(image) - len(index))))


@MEASURES.register(
    Measure(
        "uniformity.cross",
        Family.CLOUDS,
        "Uniformity, across",
        "log mean exp(−2‖v − t‖²)",
        "like the other two",
        sample=("text", "image"),
        source=SOURCE,
        misleads="Modalities far apart read low, which looks uniform: a large gap flatters it.",
    )
)
def _cross_uniformity(data: Modalities, seed: int) -> float:
    return cross_uniformity(data.text, data.image, data.pairing)
