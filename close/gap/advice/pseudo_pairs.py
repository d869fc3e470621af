"""Which texts are paired for advice where no image belongs to a text: what stands in for it is made of another caption of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.vectors.checked import Ints
from close.vectors.groups import known_labels, rows_by_label
from close.vectors.neighbours import nearest_within

__all__ = ["pseudo_pairs"]


def pseudo_pairs(text: Any, groups: npt.ArrayLike | None = None) -> Ints:
    """(P, 2) rows and those that their pseudo-images are made of: the next caption of the image, without groups the nearest text.

    An image is about as far from a caption as another caption of it is: both see the scene, and neither says just that.

    Args:
        text: (N, D) unit rows. groups: (N,) labels; rows alone in theirs get no partner.
    Raises:
        DataError: groups are given, and no group has two rows.
    """
    rows = np.asarray(text)
    if groups is None:
        return np.stack((np.arange(len(rows)), nearest_within(rows, 1)[:, 0]), axis=1)
    order, bounds = rows_by_label(known_labels(groups, len(rows)))
    following = np.roll(order, -1)
    following[bounds[1:] - 1] = order[bounds[:-1]]  # the last of a group goes on to its first
    pairs = np.stack((order, following), axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if not len(pairs):
        raise DataError("no two texts share a group: several captions of one image are needed")
    return pairs
