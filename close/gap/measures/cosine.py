"""The cosine table: how near are pairs, strangers, and members of one modality.

Means *and* standard deviations over all N² pairs are exact in linear time: Σᵢⱼ (xᵢ·yⱼ)² = ⟨Σxxᵀ, Σyyᵀ⟩.
All functions take unit rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.gap.measures.moments import Moments, moments, paired
from close.vectors.checked import Floats, Ints, Pairs, blocks, matrices, pair_blocks, pair_index

__all__ = ["Spread", "group_cosine", "paired_cosine", "unpaired_cosine", "within_cosine"]


@dataclass(frozen=True)
class Spread:
    """Mean and (population) standard deviation."""

    mean: float
    std: float


def paired_cosine(text: Any, image: Any, pairs: Pairs = None) -> Spread:
    """Mean ± sd of v_i·t_i over the pairs.

    Healthy: well above `unpaired_cosine`; CLIP has .25–.35, against 1 for a perfect encoder.
    """
    text, image, index = paired(text, image, pairs)
    cosines = pair_cosines(text, image, index)
    return Spread(float(cosines.mean()), float(cosines.std()))


def unpaired_cosine(
    text: Any, image: Any, pairs: Pairs = None, *, moment: tuple[Moments, Moments] | None = None
) -> Spread:
    """Mean ± sd of v_i·t_j over all texts and images that are not a pair.

    Args:
        pairs: what is left out; "unpaired" leaves nothing out.
        moment: moments of both sides, where they are known already.
    Healthy: near 0 and far below `paired_cosine`; CLIP has .05–.20.
    """
    text, image = matrices(text, image)
    index = pair_index(pairs, len(text), len(image))
    t, v = moment or (moments(text), moments(image))
    cosines = pair_cosines(text, image, index)
    count = t.count * v.count
    return _spread(
        count * float(t.mean @ v.mean) - cosines.sum(),
        count * float((t.second * v.second).sum()) - (cosines**2).sum(),
        count - len(index),
    )


def within_cosine(x: Any, *, moment: Moments | None = None) -> Spread:
    """Mean ± sd of x_i·x_j, i ≠ j, inside one modality.

    Healthy: near 0; CLIP has .4–.6 for texts and for images (the cone effect, Liang et al. 2022).
    """
    m = moment or moments(x)
    norms = np.concatenate([(block**2).sum(axis=1) for block in blocks(np.asarray(x))])
    return _spread(
        m.count**2 * float(m.mean @ m.mean) - norms.sum(),
        m.count**2 * float((m.second**2).sum()) - (norms**2).sum(),
        m.count * (m.count - 1),
    )


def group_cosine(x: Any, groups: npt.ArrayLike) -> Spread:
    """Mean ± sd of x_i·x_j, i ≠ j, over rows of the same group: captions of the same image.

    Args:
        x: (N, D) unit rows.
        groups: (N,) labels.
    Healthy: .7–.85 in CLIP. It is how far a caption is from saying all; unlike `paired_cosine`, no gap is in it.
    Raises:
        DataError: no group has two rows.
    """
    rows = np.asarray(x)
    total = squares = count = 0.0
    for members in group_rows(groups):
        part = rows[members].astype(np.float64)
        norms = (part**2).sum(axis=1)
        summed = part.sum(axis=0)
        gram = part @ part.T if len(part) <= part.shape[1] else part.T @ part  # one Frobenius norm
        total += float(summed @ summed - norms.sum())
        squares += float((gram**2).sum() - (norms**2).sum())
        count += len(part) * (len(part) - 1)
    return _spread(total, squares, int(count))


def group_rows(groups: npt.ArrayLike) -> list[Ints]:
    """Row indices of every group that has at least two rows.

    Raises:
        DataError: there is none.
    """
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    many = [part for part in parts if len(part) > 1]
    if not many:
        raise DataError("needs several captions of one image: pairs or groups in which an image has two or more")
    return many


def pair_cosines(text: Any, image: Any, pairs: Ints) -> Floats:
    """(P,) dot products of the pairs."""
    parts = [np.einsum("ij,ij->i", t, v) for t, v in pair_blocks(text, image, pairs)]
    return np.concatenate(parts) if parts else np.empty(0)


def _spread(total: float, squares: float, count: int) -> Spread:
    if count == 0:
        raise DataError("there is nothing to compare: every text is paired with every image")
    mean = float(total) / count
    return Spread(mean, float(np.sqrt(max(squares / count - mean**2, 0.0))))
