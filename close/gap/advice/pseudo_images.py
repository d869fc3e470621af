"""Pseudo-images: text vectors moved to where images lie, for advice and selection where no image belongs to a text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.vectors.checked import Ints
from close.vectors.groups import rows_by_label
from close.vectors.neighbours import nearest_within

__all__ = ["AGAINST_MEAN", "TYPICAL_GAP", "moved_to_images", "pseudo_pairs"]

TYPICAL_GAP = 0.85
"""Distance of the means, where no image tells it: CLIP's towers end .8 to .9 apart, whatever their size and data."""
AGAINST_MEAN = 0.5
"""Cosine of the gap with the way back along the texts' mean: each modality fills a cone, and the cones point apart (.58 in CLIP
ViT-B/16 on COCO, .48 in the mini world)."""


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
    order, bounds = rows_by_label(groups)
    following = np.roll(order, -1)
    following[bounds[1:] - 1] = order[bounds[:-1]]  # the last of a group goes on to its first
    pairs = np.stack((order, following), axis=1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    if not len(pairs):
        raise DataError("no two texts share a group: several captions of one image are needed")
    return pairs


def moved_to_images(rows: Any, text: Any, image: Any = None, *, seed: int = 0) -> npt.NDArray[np.float32]:
    """Text vectors moved to where images lie, as unit rows.

    With images, by the least movement that gives the texts the images' mean and covariance (`Transport`). Without any, by a
    shift as long as the gap of CLIP, x + .85·(u·√¾ − ½·μ̂): what is known of its direction is that half of it goes against the
    texts' mean μ̂; the rest u is random, another one for each row.

    Args:
        rows: (P, D) what is moved. text: (N, D) the texts that they are from. image: (M, D) unpaired images.
        seed: of the directions.
    """
    x = np.asarray(rows, np.float32)
    if image is None:
        mean = _unit(np.asarray(text, np.float32).mean(axis=0, keepdims=True))
        free = np.random.default_rng(seed).standard_normal(x.shape).astype(np.float32)
        free = _unit(free - free @ mean.T * mean)
        moved = x + TYPICAL_GAP * (np.sqrt(1 - AGAINST_MEAN**2) * free - AGAINST_MEAN * mean)
    else:
        import torch

        from close.adapters import build_adapter

        adapter = build_adapter("transport", x.shape[1]).fit(text=text, image=image, quiet=True)
        moved = adapter.text(torch.from_numpy(x), None).numpy()
    return _unit(moved)


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return unit
