"""The cosine table: how near are pairs, strangers, and members of one modality.

Means *and* standard deviations over all N² pairs are exact in linear time: Σᵢⱼ (xᵢ·yⱼ)² = ⟨Σxxᵀ, Σyyᵀ⟩.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.gap.measures.base import MEASURES, Family, Interval, Measure
from close.gap.modalities import Modalities, pair_cosines
from close.gap.resample import Resample
from close.vectors.checked import Floats, Ints, Pairs, distinct_rows, double_blocks, matrices, matrix, pair_index
from close.vectors.groups import known_labels, rows_by_label
from close.vectors.second_moments import Moments, moments, paired

__all__ = ["Spread", "group_cosine", "group_rows", "paired_cosine", "relative_gap", "unpaired_cosine", "within_cosine"]


@dataclass(frozen=True)
class Spread:
    """Mean and (population) standard deviation."""

    mean: float
    std: float


def relative_gap(text: Any, image: Any, pairs: Pairs = None, *, moment: tuple[Moments, Moments] | None = None) -> float:
    """Relative modality gap a/(a + (b + c)/2) (Role et al., 2025).

    a is the mean of (1 − v_i·t_i)/2 over the pairs (1e-3 where it is ≤ 0, as its authors do); b and c are the means of
    (1 − cos)/2 over i ≠ j inside the *different* images and inside the texts. Linear and exact.

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


@MEASURES.register(
    Measure(
        "rmg",
        Family.DISTANCE,
        "Relative modality gap",
        "a/(a + (b + c)/2)",
        "under 0.35; CLIP 0.5–0.65",
        high=0.35,
        scale=(0.0, 1.0),
        interval=Interval(
            lambda drawn: relative(_of_pairs(drawn), drawn.within_cosine("image"), drawn.within_cosine("text"))
        ),
        source="Role et al., 2025",
        misleads="Where the rows of each modality are nearly alike it goes to 1, however small the gap is.",
    )
)
def _relative_gap(data: Modalities, seed: int) -> float:
    return relative_gap(data.text, data.image, data.pairing, moment=data.moments)


def relative(pair_cosine: Any, image_cosine: Any, text_cosine: Any) -> Any:
    """The relative modality gap from three mean cosines (numbers or arrays)."""
    between = np.where(pair_cosine < 1, (1 - pair_cosine) / 2, 1e-3)
    within = (1 - image_cosine) / 4 + (1 - text_cosine) / 4
    ratio = between / (between + within)
    return ratio if np.ndim(ratio) else float(ratio)


def _of_pairs(drawn: Resample) -> Floats:
    return drawn.pair_mean(drawn.data.pair_cosines)


def paired_cosine(text: Any, image: Any, pairs: Pairs = None) -> Spread:
    """Mean ± sd of v_i·t_i over the pairs.

    Healthy: well above `unpaired_cosine`; CLIP has .25–.35, against 1 for a perfect encoder.
    """
    text, image, index = paired(text, image, pairs)
    cosines = pair_cosines(text, image, index)
    return Spread(float(cosines.mean()), float(cosines.std()))


@MEASURES.register(
    Measure(
        "cosine.paired.mean",
        Family.DISTANCE,
        "Cosine, pairs",
        "mean v·t of a pair",
        "over 0.6; CLIP 0.25–0.35",
        low=0.6,
        scale=(-0.2, 1.0),
        interval=Interval(_of_pairs),
        misleads="It rises with the cone: rows about one common mean of length 0.9 have 0.81 and belong to nobody. "
        "Take that of strangers off.",
        source="elementary",
    ),
    Measure("cosine.paired.std", Family.DISTANCE, "  spread", "standard deviation", "small against paired − unpaired"),
)
def _paired_cosine(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(paired_cosine(data.text, data.image, data.pairing))


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


@MEASURES.register(
    Measure(
        "cosine.unpaired.mean",
        Family.DISTANCE,
        "Cosine, strangers",
        "mean v·t of no pair",
        "near 0; CLIP 0.05–0.2",
        low=-0.1,
        high=0.1,
        interval=Interval(lambda drawn: drawn.unpaired_cosine(), needs_pairs=True),
        misleads="It is μ_v·μ_t and nothing else: 0 wherever either mean vanishes, whatever lies between pairs.",
        source="elementary",
    ),
    Measure(
        "cosine.unpaired.std", Family.DISTANCE, "  spread", "standard deviation", "small against paired − unpaired"
    ),
)
def _unpaired_cosine(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(unpaired_cosine(data.text, data.image, data.pairing, moment=data.moments))


def within_cosine(x: Any, *, moment: Moments | None = None) -> Spread:
    """Mean ± sd of x_i·x_j, i ≠ j, inside one modality.

    Healthy: near 0; CLIP has .4–.6 for texts and for images (the cone effect, Liang et al. 2022).
    """
    rows = matrix(x, "rows")
    m = moment or moments(rows)
    norms = np.concatenate([(block**2).sum(axis=1) for block in double_blocks(rows)])
    return _spread(
        m.count**2 * float(m.mean @ m.mean) - norms.sum(),
        m.count**2 * float((m.second**2).sum()) - (norms**2).sum(),
        m.count * (m.count - 1),
    )


@MEASURES.register(
    Measure(
        "cosine.text_text.mean",
        Family.DISTANCE,
        "Cosine, texts",
        "mean t·t′",
        "under 0.2; CLIP 0.3–0.6",
        high=0.2,
        interval=Interval(lambda drawn: drawn.within_cosine("text")),
        source="Liang et al., NeurIPS 2022",
        misleads="It is ‖μ_t‖²: captions of one narrow domain are alike since they speak of the same things, which "
        "is no fault of the encoder.",
    ),
    Measure("cosine.text_text.std", Family.DISTANCE, "  spread", "standard deviation", "no norm"),
)
def _within_texts(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(within_cosine(data.text, moment=data.moments[0]))


@MEASURES.register(
    Measure(
        "cosine.image_image.mean",
        Family.DISTANCE,
        "Cosine, images",
        "mean v·v′",
        "under 0.2; CLIP 0.4–0.6",
        high=0.2,
        interval=Interval(lambda drawn: drawn.within_cosine("image")),
        source="Liang et al., NeurIPS 2022",
        misleads="It is ‖μ_v‖²: pictures of one narrow domain are alike, which is no fault of the encoder.",
    ),
    Measure("cosine.image_image.std", Family.DISTANCE, "  spread", "standard deviation", "no norm"),
)
def _within_images(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(within_cosine(data.image, moment=data.moments[1]))


def group_cosine(x: Any, groups: npt.ArrayLike) -> Spread:
    """Mean ± sd of x_i·x_j, i ≠ j, over rows of the same group: captions of the same image.

    Args:
        x: (N, D).
        groups: (N,) labels.
    Healthy: .7–.85 in CLIP. It is how far a caption is from saying all; unlike `paired_cosine`, no gap is in it.
    Raises:
        DataError: not a label for each row, or no group has two rows.
    """
    rows = matrix(x, "rows")
    total = squares = count = 0.0
    for members in group_rows(groups, len(rows)):
        part = rows[members].astype(np.float64)
        norms = (part**2).sum(axis=1)
        summed = part.sum(axis=0)
        gram = part @ part.T if len(part) <= part.shape[1] else part.T @ part  # one Frobenius norm
        total += float(summed @ summed - norms.sum())
        squares += float((gram**2).sum() - (norms**2).sum())
        count += len(part) * (len(part) - 1)
    return _spread(total, squares, int(count))


@MEASURES.register(
    Measure(
        "cosine.same_image_captions.mean",
        Family.DISTANCE,
        "Cosine, captions of one image",
        "mean t·t′ of one image",
        "0.7–0.85; the paired cosine's bound without a gap",
        misleads="Captions of an image that were copied from each other give 1, and bound nothing.",
        source="elementary",
    ),
    Measure("cosine.same_image_captions.std", Family.DISTANCE, "  spread", "standard deviation", "no norm"),
)
def _group_cosine(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(group_cosine(data.text, data.groups))


def group_rows(groups: npt.ArrayLike, count: int) -> list[Ints]:
    """Row indices of every group that has at least two rows.

    Args:
        groups: (count,) labels.
    Raises:
        DataError: there is none, or not a label for each row.
    """
    rows, bounds = rows_by_label(known_labels(groups, count))
    many = [part for part in np.split(rows, bounds[1:-1]) if len(part) > 1]
    if not many:
        raise DataError("needs several captions of one image: pairs or groups in which an image has two or more")
    return many


def _spread(total: float, squares: float, count: int) -> Spread:
    if count == 0:
        raise DataError("there is nothing to compare: every text is paired with every image")
    mean = float(total) / count
    return Spread(mean, float(np.sqrt(max(squares / count - mean**2, 0.0))))
