"""Bootstrap: images are drawn with replacement, and their texts with them (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import numpy as np

from close.gap.modalities import Modalities
from close.vectors.checked import Array, Floats

__all__ = ["Resample", "resamples"]

BATCH, WEIGHTS = 100, 10_000_000
"""Resamples at once, as long as they are no more weights than that."""
Side = Literal["text", "image"]


def resamples(data: Modalities, draws: int, seed: int) -> Iterator[Resample]:
    """`draws` resamples in batches, of images with all their texts (`drawn_together`), texts without an image by themselves."""
    rng = np.random.default_rng(seed)
    units = int(max(data.clusters.max(), data.image_clusters.max())) + 1
    batch = max(1, min(BATCH, WEIGHTS // units))
    for start in range(0, draws, batch):
        counts = [
            np.bincount(rng.integers(units, size=units), minlength=units) for _ in range(min(batch, draws - start))
        ]
        weights = np.stack(counts).astype(np.float32)
        yield Resample(data, weights[:, data.clusters], weights[:, data.image_clusters])


class Resample:
    """B resamples of the same data, as weights; candidates of retrieval stay as they are, its queries are drawn.

    Attributes:
        of_text, of_image: (B, N) and (B, M) how often each row was drawn.
    """

    def __init__(self, data: Modalities, of_text: Array, of_image: Array) -> None:
        self.data, self.of_text, self.of_image = data, of_text, of_image

    @cached_property
    def counts(self) -> dict[Side, Floats]:
        """(B,) rows drawn."""
        return {side: weights.sum(axis=1, dtype=np.float64) for side, weights in self._weights.items()}

    @cached_property
    def sums(self) -> dict[Side, Floats]:
        """(B, D) sums of the rows drawn."""
        return {
            "text": _weighted_sum(self.of_text, self.data.text),
            "image": _weighted_sum(self.of_image, self.data.image),
        }

    @cached_property
    def means(self) -> dict[Side, Floats]:
        """(B, D) means."""
        return {side: self.sums[side] / self.counts[side][:, None] for side in self._weights}

    @cached_property
    def gap(self) -> Floats:
        """(B, D) Δ = μ_v − μ_t."""
        return self.means["image"] - self.means["text"]

    def total_variance(self, side: Side) -> Floats:
        """(B,) trace of the covariance, divisor N."""
        return self._weights[side] @ self._squares[side] / self.counts[side] - square_length(self.means[side])

    def within_cosine(self, side: Side) -> Floats:
        """(B,) mean cosine of different rows of one modality; a row drawn twice is not compared with itself."""
        twice = (self._weights[side] ** 2).astype(np.float64)
        apart = self.counts[side] ** 2 - twice.sum(axis=1)
        return (square_length(self.sums[side]) - twice @ self._squares[side]) / apart

    def unpaired_cosine(self) -> Floats:
        """(B,) mean cosine of texts and images that are not a pair."""
        t, v = self.data.pairs.T
        both = self.of_text[:, t] * self.of_image[:, v].astype(np.float64)
        texts, images = self.counts["text"], self.counts["image"]
        dots = (self.means["text"] * self.means["image"]).sum(axis=1) * texts * images
        return (dots - both @ self.data.pair_cosines) / (texts * images - both.sum(axis=1))

    def pair_mean(self, values: Floats) -> Floats:
        """(B,) mean of (P,) numbers of the pairs, which are drawn with their texts."""
        return self._of_pair @ values / self._of_pair.sum(axis=1)

    @cached_property
    def pair_gap(self) -> Floats:
        """(B, D) mean of v − t over the pairs; Δ itself where the pairs are all the rows."""
        if self.data.one_to_one:
            return self.gap
        t, v = self.data.pairs.T
        weights = self.of_text[:, t]
        total = _weighted_sum(weights, self.data.image, v) - _weighted_sum(weights, self.data.text, t)
        return total / self._of_pair.sum(axis=1)[:, None]

    @cached_property
    def pair_square(self) -> Floats:
        """(B,) mean of ‖v − t‖² over the pairs."""
        return self.pair_mean(self.data.pair_distances**2)

    @cached_property
    def _of_pair(self) -> Floats:
        return self.of_text[:, self.data.pairs[:, 0]].astype(np.float64)

    @property
    def _weights(self) -> dict[Side, Array]:
        return {"text": self.of_text, "image": self.of_image}

    @property
    def _squares(self) -> dict[Side, Floats]:
        text, image = self.data.squares
        return {"text": text, "image": image}


def _weighted_sum(weights: Array, rows: Array, index: Any = None, size: int = 8192) -> Floats:
    """(B, D) sums of rows (or of rows at `index`) under (B, N) weights."""
    total = np.zeros((len(weights), rows.shape[1]))
    for start in range(0, weights.shape[1], size):
        some = slice(start, start + size)
        total += weights[:, some] @ (rows[some] if index is None else rows[index[some]])
    return total


def square_length(rows: Floats) -> Floats:
    """(B,) ‖x‖² of (B, D) rows."""
    return np.asarray((rows**2).sum(axis=1))
