"""Both modalities, made ready to be measured, and what several measures share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.gap.copies import told_copies
from close.gap.search_curve import SearchCurve, search_curve
from close.vectors.checked import (
    Array,
    Floats,
    Ints,
    Pairs,
    distinct_rows,
    double_blocks,
    pair_blocks,
    pair_index,
    raw_matrices,
    unit_rows,
)
from close.vectors.groups import known_labels
from close.vectors.neighbours import Neighbours, nearest_across
from close.vectors.second_moments import Moments, PairMoments, moments, pair_moments

__all__ = ["Modalities", "distinct_pairs", "drawn_together", "hit_ranks", "pair_cosines", "pair_distances"]

MISSED = np.iinfo(np.int64).max
"""Rank of a right answer that is not among the nearest: after any."""
SEARCHED, LEAST_ASKED = 5, 1000
"""Samples whose every row looks for neighbours among all others, and how many do at least where there are more."""


@dataclass(frozen=True)
class Modalities:
    """Both modalities, checked and made ready.

    Attributes:
        text, image: (N, D) and (M, D) float32 unit rows; no two images are equal.
        pairs: (P, 2) text and image indices, sorted; (0, 2) if unpaired.
        clusters, image_clusters: (N,) and (M,) see `drawn_together`.
        groups: (N,) labels; captions of one image share theirs: those that are given, or each text's first image.
        image_rows: (M,) the row of the given table that each image is.
        n_image: rows of the given table.
        notes: remarks on the input.
        asked: texts and images that look for neighbours in the other modality, if not all do.
        seed: of the captions that search.
        adapted: whether an adapter moved them.
        remade: whether images are made of other texts than their own, as behind a memory that was fitted on the other half.
        copies: that many images are one another's up to rounding, if they are.
    """

    text: npt.NDArray[np.float32]
    image: npt.NDArray[np.float32]
    pairs: Ints
    clusters: Ints
    image_clusters: Ints
    groups: Array
    image_rows: Ints
    n_image: int
    notes: Mapping[str, str]
    asked: tuple[Ints, Ints] | None = None
    seed: int = 0
    adapted: bool = False
    remade: bool = False
    copies: str = ""

    @classmethod
    def of(cls, text: Any, image: Any, pairs: Pairs = None, groups: npt.ArrayLike | None = None) -> Modalities:
        """From tables as they come; arguments and errors are `measure_gap`'s."""
        text, image = raw_matrices(text, image)
        index = pair_index(pairs, len(text), len(image))
        groups = None if groups is None else known_labels(groups, len(text))
        (texts, text_remark), (images, image_remark) = unit_rows(text, "text"), unit_rows(image, "image")
        first, where = distinct_rows(images)
        remarks = {"text": [text_remark], "image": [image_remark]}
        if len(first) < len(images):
            remarks["image"].append(f"{len(images)} rows hold {len(first)} different images; equal rows are one image")
            images = images[first]
            index = np.unique(np.stack((index[:, 0], where[index[:, 1]]), axis=1), axis=0)
        clusters, image_clusters = drawn_together(index, len(texts), len(images), groups)
        known = (clusters, image_clusters) if groups is None else drawn_together(index, len(texts), len(images))
        copies, told = told_copies(texts, images, *known, paired=len(index) > 0, grouped=groups is not None)
        for side, remark in told.items():
            remarks[side].append(remark)
        if groups is None:
            groups = len(images) + np.arange(len(texts))
            paired, at = np.unique(index[:, 0], return_index=True)
            groups[paired] = index[at, 1]
        return cls(
            text=texts,
            image=images,
            pairs=index,
            clusters=clusters,
            image_clusters=image_clusters,
            groups=groups,
            image_rows=first,
            n_image=len(image),
            notes={side: "; ".join(filter(None, parts)) for side, parts in remarks.items() if any(parts)},
            copies=copies,
        )

    def asking(self, sample: int, seed: int) -> Modalities:
        """With the seed; above five samples a side, unless some were chosen, so few look for neighbours as cost no more."""
        if self.seed != seed:
            return replace(self, seed=seed).asking(sample, seed)
        sides, limit = (len(self.text), len(self.image)), SEARCHED * sample
        if self.asked is not None or max(sides) <= limit:
            return self
        rng = np.random.default_rng(seed)
        able = [np.unique(rows) for rows in self.pairs.T] if len(self.pairs) else [np.arange(side) for side in sides]
        texts, images = (
            np.sort(rng.choice(rows, min(len(rows), max(LEAST_ASKED, limit**2 // others)), replace=False))
            for rows, others in zip(able, reversed(sides), strict=True)
        )
        return self if (len(texts), len(images)) == sides else replace(self, asked=(texts, images))

    def drawn(self, texts: Ints, images: Ints) -> Modalities:
        """Some texts and images (sorted row numbers), with the pairs that are among them."""
        inside = self.pairs[np.isin(self.pairs[:, 0], texts) & np.isin(self.pairs[:, 1], images)]
        pairs = np.stack((np.searchsorted(texts, inside[:, 0]), np.searchsorted(images, inside[:, 1])), axis=1)
        groups = self.groups[texts]
        order = np.argsort(groups, kind="stable")
        together = _numbered(np.concatenate((self.image_clusters[images], self.clusters[texts][order])))
        clusters = np.empty(len(texts), np.int64)
        clusters[order] = together[len(images) :]  # as they were: what linked them may not be drawn
        return replace(
            self,
            text=self.text[texts],
            image=self.image[images],
            pairs=pairs,
            clusters=clusters,
            image_clusters=together[: len(images)],
            groups=groups,
            image_rows=self.image_rows[images],
            asked=None,
        )

    @property
    def pairing(self) -> Pairs:
        """The pairs as measures take them: (P, 2), or "unpaired" where there are none."""
        return self.pairs if len(self.pairs) else "unpaired"

    @cached_property
    def one_to_one(self) -> bool:
        """Whether every text and every image is in exactly one pair."""
        sizes = {len(self.text), len(self.image), len(self.pairs), *(len(np.unique(rows)) for rows in self.pairs.T)}
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
        """The 10 nearest of the other modality, of those that are asked."""
        return nearest_across(self.text, self.image, asked=self.asked)

    @cached_property
    def hit_ranks(self) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
        """See `hit_ranks`."""
        return hit_ranks(self.pairs, self.neighbours)

    @cached_property
    def search(self) -> SearchCurve:
        """What texts find with noise, against what their images find; DataError without pairs, and behind an adapter."""
        if self.adapted:
            raise DataError("a run searches with the vectors before its adapter: see the tables as they are")
        pairs = distinct_pairs(self.pairs)
        if len(pairs) < 2 or len(self.text) < 3:
            raise DataError("needs two captioned images and three texts")
        labels = self.groups if len(np.unique(self.groups)) < len(self.groups) else None
        return search_curve(self.text, self.image, pairs[:, 0], image_rows=pairs[:, 1], labels=labels, seed=self.seed)

    @cached_property
    def squares(self) -> tuple[Floats, Floats]:
        """(N,) and (M,) squared lengths of the rows, which are 1 up to float32."""
        text, image = (
            np.concatenate([(block**2).sum(axis=1) for block in double_blocks(rows)])
            for rows in (self.text, self.image)
        )
        return text, image

    @cached_property
    def pair_cosines(self) -> Floats:
        """(P,) v·t of the pairs."""
        return pair_cosines(self.text, self.image, self.pairs)

    @cached_property
    def pair_distances(self) -> Floats:
        """(P,) ‖v − t‖ of the pairs."""
        return pair_distances(self.text, self.image, self.pairs)


def pair_cosines(text: Array, image: Array, pairs: Ints) -> Floats:
    """(P,) dot products of the pairs."""
    parts = [np.einsum("ij,ij->i", t, v) for t, v in pair_blocks(text, image, pairs)]
    return np.concatenate(parts) if parts else np.empty(0)


def pair_distances(text: Array, image: Array, pairs: Ints) -> Floats:
    """(P,) distances ‖v_i − t_i‖ of the pairs."""
    parts = [np.linalg.norm(v - t, axis=1) for t, v in pair_blocks(text, image, pairs)]
    return np.concatenate(parts) if parts else np.empty(0)


def hit_ranks(pairs: Ints, neighbours: Neighbours) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """Per direction, image to text first: the queries, and the 0-based rank of their first right answer (`MISSED`: none)."""
    wide = 1 + max(pairs[:, 1].max(initial=-1), neighbours.images_of_text.max(initial=-1))

    def ranks(asked: Ints | None, paired: Ints, found: Ints, *, of_images: bool) -> tuple[Ints, Ints]:
        known = np.arange(len(found)) if asked is None else asked
        queries, places, _ = np.intersect1d(known, paired, assume_unique=True, return_indices=True)
        texts, images = (found[places], queries[:, None]) if of_images else (queries[:, None], found[places])
        hit = np.isin(texts * wide + images, pairs[:, 0] * wide + pairs[:, 1])
        return queries, np.where(hit.any(axis=1), hit.argmax(axis=1), MISSED)

    texts, images = np.unique(pairs[:, 0]), np.unique(pairs[:, 1])
    return (
        ranks(neighbours.images, images, neighbours.texts_of_image, of_images=True),
        ranks(neighbours.texts, texts, neighbours.images_of_text, of_images=False),
    )


def distinct_pairs(pairs: Ints) -> Ints:
    """(Q, 2) pairs in which no image and no text comes twice: every image's first text, and of these every text's first image."""
    first = pairs[np.unique(pairs[:, 1], return_index=True)[1]]
    return np.asarray(first[np.sort(np.unique(first[:, 0], return_index=True)[1])])


def drawn_together(pairs: Ints, n_text: int, n_image: int, groups: Any = None) -> tuple[Ints, Ints]:
    """(n_text,) and (n_image,) numbers, from 0, that an image shares with its texts, and with images that are of the same ones.

    An image goes with that group (a text, without groups) that most of its pairs are of, and of these with the one of fewest
    images: frames of a film are one, but a caption that fits many images does not link those that have others. A group goes
    with that image that most of its pairs are of, the first of these. Numbers are in the order of the images, then of the
    groups without one.
    """
    labels = np.arange(n_text) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    links, often = np.unique(np.stack((labels[pairs[:, 0]], pairs[:, 1]), axis=1), axis=0, return_counts=True)
    group, image = links.T
    n_group = int(labels.max(initial=-1)) + 1
    of_image, of_group = n_group + np.arange(n_image), np.arange(n_group)
    by_image = np.lexsort((group, np.bincount(group, minlength=n_group)[group], -often, image))
    best = by_image[np.unique(image[by_image], return_index=True)[1]]
    of_image[image[best]] = group[best]
    by_group = np.lexsort((image, -often, group))
    best = by_group[np.unique(group[by_group], return_index=True)[1]]
    of_group[group[best]] = of_image[image[best]]
    together = _numbered(np.concatenate((of_image, of_group)))
    return together[n_image + labels], together[:n_image]


def _numbered(names: Ints) -> Ints:
    """Numbers from 0 in the order in which names come first."""
    first, where = np.unique(names, return_index=True, return_inverse=True)[1:]
    return np.asarray(np.argsort(np.argsort(first))[where])
