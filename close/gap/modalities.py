"""Both modalities, made ready to be measured, and what several measures share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.gap.measures.moments import Moments, PairMoments, moments, pair_moments
from close.gap.measures.retrieval import Neighbours, nearest_across
from close.gap.measures.separability import text_clusters
from close.vectors.checked import Array, Ints, Pairs, distinct_rows, matrices, pair_index, unit_rows

__all__ = ["Sides", "as_pairing"]


def as_pairing(pairs: Ints) -> Pairs:
    """(P, 2) pairs, or "unpaired" where there are none."""
    return pairs if len(pairs) else "unpaired"


@dataclass(frozen=True)
class Sides:
    """Both modalities, checked and made ready.

    Attributes:
        text, image: (N, D) and (M, D) float32 unit rows; no two images are equal.
        pairs: (P, 2) text and image indices, sorted; (0, 2) if unpaired.
        clusters: (N,) see `text_clusters`.
        groups: (N,) labels; captions of one image share theirs.
        image_rows: (M,) the row of the given table that each image is.
        n_image: rows of the given table.
        notes: remarks on the input.
    """

    text: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]
    pairs: Ints
    clusters: Ints
    groups: Array
    image_rows: Ints
    n_image: int
    notes: Mapping[str, str]

    @classmethod
    def of(cls, text: Any, image: Any, pairs: Pairs = None, groups: npt.ArrayLike | None = None) -> Sides:
        """From tables as they come; arguments and errors are `measure_gap`'s."""
        text, image = matrices(text, image)
        index = pair_index(pairs, len(text), len(image))
        if groups is not None and np.shape(groups) != (len(text),):
            raise DataError(f"groups: expected a label for each of {len(text)} texts, got shape {np.shape(groups)}")
        (texts, text_remark), (images, image_remark) = unit_rows(text, "text"), unit_rows(image, "image")
        first, where = distinct_rows(images)
        remarks = {"text": [text_remark], "image": [image_remark]}
        if len(first) < len(images):
            remarks["image"].append(f"{len(images)} rows hold {len(first)} different images; equal rows are one image")
            images = images[first]
            index = np.unique(np.stack((index[:, 0], where[index[:, 1]]), axis=1), axis=0)
        clusters = text_clusters(index, len(texts), len(images), groups)
        return cls(
            text=texts,
            image=images,
            pairs=index,
            clusters=clusters,
            groups=clusters if groups is None else np.asarray(groups),
            image_rows=first,
            n_image=len(image),
            notes={side: "; ".join(filter(None, said)) for side, said in remarks.items() if any(said)},
        )

    @property
    def pairing(self) -> Pairs:
        """The pairs as measures take them."""
        return as_pairing(self.pairs)

    @cached_property
    def one_to_one(self) -> bool:
        """Whether every text and every image is in exactly one pair."""
        sizes = {len(self.text), len(self.image), len(self.pairs), *(len(np.unique(side)) for side in self.pairs.T)}
        return len(sizes) == 1

    @cached_property
    def joint(self) -> PairMoments:
        """Moments of the pairs; DataError without pairs."""
        return pair_moments(self.text, self.image, self.pairing)

    @cached_property
    def moments(self) -> tuple[Moments, Moments]:
        """Moments of all texts and of all images."""
        if self.one_to_one:
            return self.joint.text, self.joint.image
        return moments(self.text), moments(self.image)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The 10 nearest of the other modality."""
        return nearest_across(self.text, self.image)
