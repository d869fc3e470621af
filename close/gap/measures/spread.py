"""How wide each modality is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from close.errors import DataError
from close.gap.measures.base import MEASURES, Family, Interval, Measure
from close.gap.modalities import Modalities
from close.gap.resample import Side, square_length
from close.vectors.checked import matrices
from close.vectors.second_moments import Moments, both_moments, mean_row

__all__ = ["Cone", "DimensionGap", "cone", "dimension_gap", "trace_ratio"]


@dataclass(frozen=True)
class Cone:
    """Norms of the two mean vectors."""

    text: float
    image: float


@dataclass(frozen=True)
class DimensionGap:
    """How the gap and the spread are shared among dimensions."""

    top10_gap_share: float
    std_ratio_median: float


def cone(text: Any, image: Any) -> Cone:
    """‖μ_t‖ and ‖μ_v‖: how narrow a cone each modality fills (Liang et al., 2022).

    Linear and exact. Healthy: near 0 the vectors point everywhere; CLIP's .5–.8 means narrow cones.
    """
    if not isinstance(text, Moments):
        text, image = matrices(text, image)
    return Cone(float(np.linalg.norm(mean_row(text))), float(np.linalg.norm(mean_row(image))))


def _declared(side: Side, mean: str) -> Measure:
    return Measure(
        f"cone.{side}",
        Family.CLOUDS,
        f"Cone of {side}s",
        mean,
        "under 0.4; CLIP 0.5–0.8",
        high=0.4,
        interval=Interval(lambda drawn: np.sqrt(square_length(drawn.means[side]))),
        source="Liang et al., NeurIPS 2022",
        misleads="Two narrow clusters on opposite sides have mean 0 and look wide.",
    )


@MEASURES.register(_declared("text", "‖μ_t‖"), _declared("image", "‖μ_v‖"))
def _cone(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(cone(*data.moments))


def trace_ratio(text: Any, image: Any) -> float:
    """√(Tr Σ_v / Tr Σ_t): the scale s by which ReAlign spreads text to match images.

    Linear and exact. Healthy: near 1, one modality spreads as far as the other.
    """
    t, v = both_moments(text, image)
    if t.total == 0:
        raise DataError("the texts have no variance")
    return float(np.sqrt(v.total / t.total))


@MEASURES.register(
    Measure(
        "trace_ratio",
        Family.CLOUDS,
        "Trace ratio",
        "√(Tr Σ_v/Tr Σ_t)",
        "0.9–1.1",
        0.9,
        1.1,
        interval=Interval(lambda drawn: np.sqrt(drawn.total_variance("image") / drawn.total_variance("text"))),
        source="Yu et al., arXiv 2602.07026",
        misleads="Totals are compared, not directions: clouds that vary along different axes read 1.",
    )
)
def _trace_ratio(data: Modalities, seed: int) -> float:
    return trace_ratio(*data.moments)


def dimension_gap(text: Any, image: Any) -> DimensionGap:
    """Share of Σ_k|Δ_k| held by the 10 largest |Δ_k|, and the median over dimensions of σ_v/σ_t (Schrodi et al., ICLR 2025).

    Linear and exact; dimensions in which the texts are constant are left out of the median. Healthy: the share near that of
    D equal dimensions, 10/D, up to about three times that; a few dimensions that hold the gap are better shifted than noised.
    The ratio near 1.
    """
    t, v = both_moments(text, image)
    gap = np.sort(np.abs(v.mean - t.mean))[::-1]
    spread = t.cov.diagonal() > 0
    if not spread.any() or not gap.any():
        raise DataError("the gap is exactly zero, or the texts have no variance")
    ratio = np.sqrt(v.cov.diagonal()[spread] / t.cov.diagonal()[spread])
    return DimensionGap(float(gap[:10].sum() / gap.sum()), float(np.median(ratio)))


@MEASURES.register(
    Measure(
        "dimension.top10_gap_share",
        Family.VECTOR,
        "Held by 10 dimensions",
        "share of Σ|Δ_k|",
        "under 0.2; CLIP about 0.2; even is 10/D",
        high=0.2,
        source="Schrodi et al., ICLR 2025",
        misleads="It depends on the axes: turning both clouds together changes it, and the gap not at all.",
    ),
    Measure(
        "dimension.std_ratio_median",
        Family.CLOUDS,
        "Ratio per dimension",
        "median σ_v/σ_t",
        "0.9–1.1",
        0.9,
        1.1,
        source="Schrodi et al., ICLR 2025",
        misleads="Nearly half of the dimensions may be off by any factor.",
    ),
)
def _dimension_gap(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(dimension_gap(*data.moments))
