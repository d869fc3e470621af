"""What is left of a pair's difference once the shift is taken off, r_i = v_i − t_i − Δ, and the noise that imitates it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.gap.measures.base import MEASURES, Family, Interval, Measure
from close.gap.measures.cosine import group_rows
from close.gap.modalities import Modalities
from close.gap.resample import Resample, square_length
from close.vectors.checked import Array, Floats, Pairs, matrix, pair_blocks
from close.vectors.second_moments import PairMoments, mean_row, pair_moments, paired

__all__ = [
    "CaptionSpread",
    "Noise",
    "ResidualSize",
    "ResidualSpectrum",
    "caption_spread",
    "consecutive_cosine",
    "noise_from_pairs",
    "residual_eigenvalues",
    "residual_normality",
    "residual_size",
    "residual_spectrum",
]

MOST_COMPARED = 500
"""Captions of a group that are compared each with each."""


@dataclass(frozen=True)
class ResidualSize:
    """Per-dimension size and length of the residual."""

    per_dim_mean: float
    per_dim_std: float
    norm: float


@dataclass(frozen=True)
class ResidualSpectrum:
    """How many directions the residual fills."""

    participation_ratio: float
    effective_rank: float
    top10_share: float


@dataclass(frozen=True)
class Noise:
    """Isotropic noise as a standard deviation per dimension and as the portable cosine 1/√(1 + w²D)."""

    std: float
    cosine: float


@dataclass(frozen=True)
class CaptionSpread:
    """How far captions of one image lie apart: per-dimension standard deviation, and CapDec's mean ℓ∞ distance."""

    std: float
    linf: float


def residual_size(text: Any, image: Any, pairs: Pairs = None) -> ResidualSize:
    """Size of r_i = v_i − t_i − Δ, Δ = μ_v − μ_t of all rows (Zhang et al., ICLR 2024: C3's alignment noise).

    - per_dim_mean: mean over dimensions of |mean_i r_ik|; 0 where the pairs are all the rows;
    - per_dim_std: √(mean over dimensions of the variance of r_ik), divisor P;
    - norm: mean ‖r_i‖.

    Linear and exact. Healthy: per_dim_mean 0; CLIP's norm is about .8, nearly as long as the vectors themselves.
    """
    text, image, index = paired(text, image, pairs)
    delta = mean_row(image) - mean_row(text)
    mean, square, norm = np.zeros_like(delta), np.zeros_like(delta), 0.0
    for t, v in pair_blocks(text, image, index):
        r = v - t - delta
        mean += r.sum(axis=0) / len(index)
        square += (r**2).sum(axis=0) / len(index)
        norm += float(np.linalg.norm(r, axis=1).sum()) / len(index)
    variance = (square - mean**2).clip(0)
    return ResidualSize(float(np.abs(mean).mean()), float(np.sqrt(variance.mean())), norm)


@MEASURES.register(
    Measure(
        "residual.per_dim_mean",
        Family.RESIDUAL,
        "Mean per dimension",
        "mean |mean r_k|",
        "0",
        high=0.001,
        source="Zhang et al., ICLR 2024",
        misleads="0 by construction where every row is in one pair; only rows without a pair, or in several, can "
        "move it.",
    ),
    Measure(
        "residual.per_dim_std",
        Family.RESIDUAL,
        "Std per dimension",
        "√(mean variance of r_k)",
        "under half of 1/√D",
        interval=Interval(lambda drawn: _drawn_std(drawn)),
        source="Zhang et al., ICLR 2024",
        misleads="A caption's wording counts as much as the encoder's error: an encoder without fault, and five "
        "captions an image, give a large one.",
    ),
    Measure(
        "residual.norm",
        Family.RESIDUAL,
        "Length",
        "mean ‖r‖",
        "under 0.5; CLIP about 0.8",
        high=0.5,
        misleads="It holds what captions leave out beside what the encoder gets wrong: vague captions make it long.",
        source="Zhang et al., ICLR 2024",
    ),
)
def _residual_size(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(residual_size(data.text, data.image, data.pairing))


def _drawn_std(drawn: Resample) -> Floats:
    dim = drawn.data.text.shape[1]
    return np.asarray(np.sqrt((drawn.pair_square - square_length(drawn.pair_gap)).clip(0) / dim))


def consecutive_cosine(text: Any, image: Any, pairs: Pairs = None) -> float:
    """Mean cosine of the residuals of consecutive pairs, r_i and r_{i+1}, of different images (Zhang et al., ICLR 2024).

    Linear and exact. Captions of one image share its residual wherever they lie, so such neighbours are left out. Healthy:
    about 0, residuals of different pairs have nothing to do with each other; else rows lie in an order that matters, or the gap
    is not one shift.
    """
    text, image, index = paired(text, image, pairs)
    delta = mean_row(image) - mean_row(text)
    other = np.diff(index[:, 1]) != 0
    cosines, last, at = [], np.empty((0, len(delta))), 0
    for t, v in pair_blocks(text, image, index):
        r = np.concatenate((last, v - t - delta))
        last = r[-1:]
        norms = np.linalg.norm(r, axis=1)
        good = (norms[:-1] > 0) & (norms[1:] > 0) & other[at : at + len(r) - 1]
        at += len(r) - 1
        cosines.append(np.einsum("ij,ij->i", r[:-1], r[1:])[good] / (norms[:-1] * norms[1:])[good])
    every = np.concatenate(cosines)
    if len(every) == 0:
        raise DataError(
            "every residual is zero: the gap is exactly one shift"
            if other.any()
            else "needs pairs of two images at least"
        )
    return float(every.mean())


@MEASURES.register(
    Measure(
        "residual.consecutive_cosine",
        Family.RESIDUAL,
        "Neighbours in file",
        "mean cos(r_i, r_{i+1})",
        "0 ± 0.05",
        -0.05,
        0.05,
        source="Zhang et al., ICLR 2024",
        misleads="Files sorted by topic have neighbours that are alike: shuffle before blaming the encoder.",
    )
)
def _consecutive_cosine(data: Modalities, seed: int) -> float:
    return consecutive_cosine(data.text, data.image, data.pairing)


def residual_eigenvalues(text: Any, image: Any = None, pairs: Pairs = None) -> Floats:
    """(D,) eigenvalues of Cov(r), largest first; takes a `PairMoments` instead of rows too."""
    m = text if isinstance(text, PairMoments) else pair_moments(text, image, pairs)
    values = np.linalg.eigvalsh(m.text.cov + m.image.cov - m.cross - m.cross.T)[::-1]
    return np.asarray(values.clip(0))


def residual_spectrum(text: Any, image: Any = None, pairs: Pairs = None) -> ResidualSpectrum:
    """Anisotropy of the residual from the eigenvalues λ of Cov(r).

    participation_ratio (Σλ)²/Σλ²; effective_rank exp(entropy of λ/Σλ) (Roy & Vetterli, 2007); top10_share of Σλ.
    Linear and exact. Healthy: isotropic noise imitates the residual well where both ranks are near D and the share near 10/D;
    CLIP's effective rank is 118 of 512 (250 COCO pairs), which is where covariance noise differs from Gaussian noise.
    """
    values = residual_eigenvalues(text, image, pairs)
    total = values.sum()
    if total < 1e-12:
        raise DataError("every residual is zero: the gap is exactly one shift")
    share = values / total
    entropy = -(share * np.log(share, where=share > 0, out=np.zeros_like(share))).sum()
    return ResidualSpectrum(float(1 / (share**2).sum()), float(np.exp(entropy)), float(share[:10].sum()))


@MEASURES.register(
    Measure(
        "residual.participation_ratio",
        Family.RESIDUAL,
        "Participation ratio",
        "(Σλ)²/Σλ²",
        "near D: isotropic noise fits",
        few=("pairs", "low"),
        misleads="It can't pass the number of pairs: 100 pairs of perfectly isotropic noise in 512 dimensions read "
        "below 100.",
        source="Gao et al., 2017",
    ),
    Measure(
        "residual.effective_rank",
        Family.RESIDUAL,
        "Effective rank",
        "exp H(λ/Σλ)",
        "near D: isotropic noise fits",
        few=("pairs", "low"),
        source="Roy & Vetterli, 2007",
        misleads="It can't pass the number of pairs: 100 pairs of perfectly isotropic noise in 512 dimensions read "
        "below 100.",
    ),
    Measure(
        "residual.top10_share",
        Family.RESIDUAL,
        "Top 10 directions",
        "share of Σλ",
        "near 10/D: isotropic noise fits",
        misleads="Few pairs fill few directions: with 10 pairs it is 1 whatever the noise is.",
        source="elementary",
    ),
)
def _residual_spectrum(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(residual_spectrum(data.joint))


def residual_normality(text: Any, image: Any, pairs: Pairs = None) -> float:
    """Median over dimensions of the p-value of D'Agostino and Pearson's K² test on r_ik.

    Linear and exact. Healthy: .5 is what Gaussian residuals give; under .01 most dimensions are visibly not Gaussian, which
    large samples detect long before it matters.

    Raises:
        DataError: fewer than 20 pairs, for which the test is not made.
    """
    from scipy import stats

    text, image, index = paired(text, image, pairs)
    if len(index) < 20:
        raise DataError(f"needs at least 20 pairs; there are {len(index)}")
    values = []
    for start in range(0, text.shape[1], 64):
        some = slice(start, start + 64)
        r = image[:, some][index[:, 1]].astype(np.float64) - text[:, some][index[:, 0]]
        r = r[:, r.std(axis=0) > 1e-12]
        if r.size:
            values.append(stats.normaltest(r, axis=0).pvalue)
    if not values:
        raise DataError("every residual is zero: the gap is exactly one shift")
    return float(np.median(np.concatenate(values)))


@MEASURES.register(
    Measure(
        "residual.normality_p",
        Family.RESIDUAL,
        "Normality p",
        "median over dimensions, K² test",
        "over 0.05: Gaussian",
        low=0.05,
        source="D'Agostino & Pearson, 1973",
        misleads="With few pairs nothing is found, with very many the smallest departure is: it says little of how "
        "far from Gaussian.",
    )
)
def _residual_normality(data: Modalities, seed: int) -> float:
    return residual_normality(data.text, data.image, data.pairing)


def noise_from_pairs(text: Any, image: Any, pairs: Pairs = None) -> Noise:
    """Isotropic noise as large as the pair residual: w = √(E‖r‖²/D), and its cosine 1/√(1 + w²D).

    Linear and exact. Healthy: compare with what papers use: cosine .29 (CLOSE, single captions), .41 (its default), .67
    (several captions). Single captioning wants more noise than the residual says.
    """
    text, image, index = paired(text, image, pairs)
    delta = mean_row(image) - mean_row(text)
    squared = sum(float(((v - t - delta) ** 2).sum()) for t, v in pair_blocks(text, image, index)) / len(index)
    return Noise(*map(float, noise_of(squared, text.shape[1])))


def noise_of(squared: Any, dim: int) -> tuple[Any, Any]:
    """(std, cosine) of noise with the given mean squared length."""
    return np.sqrt(squared / dim), 1 / np.sqrt(1 + squared)


@MEASURES.register(
    Measure(
        "noise.std",
        Family.RESIDUAL,
        "Noise like it, std",
        "√(E‖r‖²/D)",
        "what Gaussian noise of that size needs",
        interval=Interval(lambda drawn: _drawn_noise(drawn)[0]),
        misleads="The size is right and the shape may not be: far below D in participation ratio, most of such "
        "noise falls where nothing varies.",
        source="Gu et al., ICCV 2023",
    ),
    Measure(
        "noise.cosine",
        Family.RESIDUAL,
        "Noise like it, cosine",
        "1/√(1 + w²D)",
        "papers: 0.29, 0.41 (CLOSE), 0.67",
        scale=(0.0, 1.0),
        interval=Interval(lambda drawn: _drawn_noise(drawn)[1]),
        source="Gu et al., ICCV 2023",
        misleads="It imitates the residual's size; what trains best is often more, since noise also keeps a model "
        "from copying its caption.",
    ),
)
def _noise_from_pairs(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(noise_from_pairs(data.text, data.image, data.pairing))


def _drawn_noise(drawn: Resample) -> tuple[Floats, Floats]:
    across = (drawn.gap * drawn.pair_gap).sum(axis=1)
    squared = (drawn.pair_square - 2 * across + square_length(drawn.gap)).clip(0)
    return noise_of(squared, drawn.data.text.shape[1])


def caption_spread(text: Any, groups: npt.ArrayLike) -> CaptionSpread:
    """Spread of captions of one image; needs text only.

    std: √(Σ_g Σ_{i∈g} ‖t_i − μ_g‖² / (D · Σ_g (n_g − 1))); linf: mean over groups of the mean ‖t_i − t_j‖_∞, i < j, by which
    CapDec (Nukrai et al., 2022) sets its noise; of groups of more than 500, of 500 that are drawn. Linear; std is exact.

    Healthy: under the residual's, since a picture is further from its captions than they are from each other; CLIP's cosine of
    .77 between captions of an image (Flickr8k) is a std of √(.23/D), about .6 of the residual's.

    Raises:
        DataError: not a label for each caption, or no group has two captions.
    """
    rows = matrix(text, "text")
    squared, free, farthest = 0.0, 0, []
    for members in group_rows(groups, len(rows)):
        part = rows[members].astype(np.float64)
        squared += float(((part - part.mean(axis=0)) ** 2).sum())
        free += len(part) - 1
        farthest.append(_mean_linf(part))
    return CaptionSpread(float(np.sqrt(squared / (free * rows.shape[1]))), float(np.mean(farthest)))


@MEASURES.register(
    Measure(
        "caption_spread.std",
        Family.RESIDUAL,
        "Captions of one image, std",
        "within an image",
        "CLIP about 0.6 of the noise above",
        misleads="Copied captions give 0, and groups that mix several pictures give too much.",
        source="Nukrai et al., 2022",
    ),
    Measure(
        "caption_spread.linf",
        Family.RESIDUAL,
        "  mean ℓ∞ distance",
        "CapDec's noise",
        "no norm",
        source="Nukrai et al., 2022",
        misleads="A maximum over dimensions: encoders of different width can't be compared by it.",
    ),
)
def _caption_spread(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(caption_spread(data.text, data.groups))


def _mean_linf(rows: Array) -> float:
    """Mean ‖x_i − x_j‖_∞ over i < j; of many rows, of some: labels for groups would make it quadratic in all."""
    if len(rows) > MOST_COMPARED:
        rows = rows[np.random.default_rng(0).choice(len(rows), MOST_COMPARED, replace=False)]
    total = sum(float(np.abs(rows[i + 1 :] - rows[i]).max(axis=1).sum()) for i in range(len(rows) - 1))
    return total / (len(rows) * (len(rows) - 1) / 2)
