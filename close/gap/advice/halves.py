"""The data of the advice, in two halves that share no image: what is tried on one was learnt on the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.gap.advice.advice import Data, Setting
from close.gap.advice.pseudo_pairs import pseudo_pairs
from close.gap.modalities import Modalities
from close.runs.stand_ins import moved_to_images
from close.vectors.checked import Array, Floats, Ints, Pairs, distinct_rows, unit_rows
from close.vectors.groups import known_labels

__all__ = ["LEAST", "Half", "Rows", "enough_groups", "several_of"]

LEAST = 8
"""Images, or groups of captions, that anything can be advised on."""
GROUPS = 100
"""Images with several captions from which on these tell the noise better than each caption's nearest other one does."""
TESTS = 1000


@dataclass(frozen=True)
class Half:
    """What is learnt from, and what it is tried on."""

    sources: Array
    targets: Floats
    fit: Mapping[str, Array]
    images: Array
    truth: Floats


@dataclass(frozen=True)
class Rows:
    """What the advice rests on.

    Attributes:
        text: (N, D) unit rows. images: (M, D) unit rows, or None.
        pairs: (P, 2) text and image rows that belong together; (0, 2) where none do.
        labels: (N,) captions of one image share theirs.
        several: images that two different captions are of, or more.
        grouped: whether stand-ins for images are made of other captions of the same image.
        copies: see `Modalities`; nothing where groups say which texts are of one image.
    """

    text: Array
    images: Array | None
    pairs: Ints
    labels: Ints
    several: int
    grouped: bool
    copies: str = ""

    @property
    def data(self) -> Data:
        """What kind of data it is."""
        if len(self.pairs):
            return "pairs"
        return "unpaired" if self.images is not None else "groups" if self.grouped else "captions"

    @classmethod
    def of(
        cls,
        text: Any,
        image: Any,
        pairs: Pairs,
        groups: npt.ArrayLike | None,
        sample: int,
        seed: int,
        setting: Setting = "single",
    ) -> Rows:
        """From tables as they come, at most `sample` texts of them; texts that no groups are judged by are distinct ones.

        Where a sample has too few images of several captions to be judged by, these come first, to judge by as many as there are.

        Args:
            setting: "multiple" is judged by groups though these are few: the targets are others of them.
        Raises:
            DataError, MismatchError: see `measure_gap`.
        """
        index, images, copies = np.empty((0, 2), np.int64), None, ""
        if image is not None:
            data = Modalities.of(text, image, pairs, groups)
            rows, images, index, labels = data.text, data.image, data.pairs, data.groups
            copies = data.copies if groups is None else ""
        else:
            rows = unit_rows(text, "text")[0]
            labels = np.arange(len(rows)) if groups is None else known_labels(groups, len(rows))
        labels = np.unique(labels, return_inverse=True)[1]
        distinct, same = distinct_rows(rows)

        def grouped(kept: Ints) -> bool:
            several = several_of(labels[kept], same[kept])
            return several >= (LEAST if setting == "multiple" else enough_groups(len(np.unique(labels[kept]))))

        keep = np.arange(len(rows)) if grouped(np.arange(len(rows))) or len(index) else distinct
        if len(keep) > sample:
            order = np.random.default_rng(seed).permutation(int(labels.max()) + 1)[labels]
            drawn = keep[np.argsort(order[keep], kind="stable")[:sample]]
            if not grouped(drawn) and (setting == "multiple" or not len(index)):
                alone = _texts_of(labels, same)[labels] < 2
                drawn = keep[np.lexsort((order[keep], alone[keep]))[:sample]]
            keep = np.sort(drawn)
        if not (grouped(keep) or len(index)):
            keep = keep[np.sort(np.unique(same[keep], return_index=True)[1])]
        place = np.full(len(rows), -1)
        place[keep] = np.arange(len(keep))
        index = np.stack((place[index[:, 0]], index[:, 1]), axis=1)
        several = several_of(labels[keep], same[keep])
        return cls(rows[keep], images, index[index[:, 0] >= 0], labels[keep], several, grouped(keep), copies)

    def halves(self, setting: Setting, seed: int) -> Iterator[Half]:
        """Two ways round: learn from one half of the groups and images, try on the other.

        Args:
            setting: "single", where a caption is its own target, or "multiple", where the others of its group are.
        Raises:
            DataError: fewer than 8 groups or images, those that share one counted once.
        """
        rows, images, index, labels = self.text, self.images, self.pairs, self.labels
        names = np.unique(labels, return_inverse=True)[1]
        part = _linked(names, index)
        count = int(part.max()) + 1
        if count < LEAST:
            raise DataError(
                f"{count} images or groups of captions (those that share one count once): at least {LEAST} are needed"
            )
        rng = np.random.default_rng([seed, 2])
        side = (rng.permutation(count) % 2)[part]
        image_side = np.empty(0, int) if images is None else rng.permutation(len(images)) % 2
        if len(index):
            image_side[index[:, 1]] = side[index[:, 0]]
        others = _others(rows, names)
        z, truth, owners = _tests(rows, images, index, labels if self.grouped else None, others, seed)
        for learn in (0, 1):
            train = np.flatnonzero(side == learn)
            if setting == "multiple":
                train = train[np.isfinite(others[train, 0])]
            test = np.flatnonzero((side[owners] != learn).all(axis=1))
            test = test[rng.permutation(len(test))[:TESTS]]
            if len(train) < 4 or not len(test):
                raise DataError("too few images or groups of captions to learn from one half and try on the other")
            fit = {"text": rows[side == learn], "groups": names[side == learn]}
            if images is not None:
                fit["image"] = images[image_side == learn]
            if len(index):
                inside = index[side[index[:, 0]] == learn]
                fit |= {"paired_text": rows[inside[:, 0]], "paired_image": images[inside[:, 1]]}  # type: ignore[index]
            targets = others[train] if setting == "multiple" else rows[train].astype(np.float64)
            yield Half(rows[train], targets, fit, z[test], truth[test])


def several_of(labels: Ints, same: Ints | None = None) -> int:
    """How many labels have two texts or more that differ.

    Args:
        labels: (N,) of the texts. same: (N,) what equal texts share; without it all differ.
    """
    return int((_texts_of(labels, same) > 1).sum())


def _texts_of(labels: Ints, same: Ints | None = None) -> Ints:
    """(L,) how many different texts each label has, from 0 to the last."""
    return np.bincount(labels if same is None else np.unique(np.stack((labels, same)), axis=1)[0])


def enough_groups(count: int) -> int:
    """Images with several captions that stand-ins are made by, of so many images: fewer where hardly a caption stands alone."""
    return max(LEAST, min(GROUPS, count // 2))


def _linked(names: Ints, index: Ints) -> Ints:
    """(N,) from 0: texts that share a name or an image, or that others link which do, have the same number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(names.max()) + 1
    size = count + int(index[:, 1].max(initial=-1)) + 1
    links = coo_array((np.ones(len(index)), (names[index[:, 0]], count + index[:, 1])), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1][names], np.int64)


def _others(rows: Array, names: Ints) -> Floats:
    """(N, D) the mean of the other rows of each row's group; NaN for a row alone."""
    total = np.zeros((int(names.max()) + 1, rows.shape[1]))
    np.add.at(total, names, rows.astype(np.float64))
    rest = (np.bincount(names)[names] - 1)[:, None].astype(float)
    return np.divide(total[names] - rows, rest, out=np.full(rows.shape, np.nan), where=rest > 0)


def _tests(
    rows: Array, images: Array | None, index: Ints, labels: Array | None, others: Floats, seed: int
) -> tuple[Array, Floats, Ints]:
    """Images, or pseudo-images; the vector that is to come out; and (T, 1 or 2) the text rows that say whose half it is."""
    if len(index):
        assert images is not None
        shown, first, where = np.unique(index[:, 1], return_index=True, return_inverse=True)
        truth = np.zeros((len(shown), rows.shape[1]))
        np.add.at(truth, where, rows[index[:, 0]].astype(np.float64))
        return images[shown], truth / np.bincount(where)[:, None], index[first, :1]
    pairs = pseudo_pairs(rows, labels)
    truth = others[pairs[:, 1]] if labels is not None else rows[pairs[:, 0]].astype(np.float64)
    return moved_to_images(rows[pairs[:, 1]], rows, images, seed=seed), truth, pairs
