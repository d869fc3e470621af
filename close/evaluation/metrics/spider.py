"""SPIDEr: Liu et al. (2017), the mean of CIDEr-D and SPICE; what captions of recordings are known by."""

from __future__ import annotations

from close.evaluation.bootstrap import SummedScore, mean_score
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score
from close.evaluation.metrics.cider import cider_of_each
from close.evaluation.metrics.spice import spice_of_each

__all__ = ["spider"]


@METRICS.register(
    Metric(
        "spider",
        "caption",
        (Score("spider", "SPIDEr", scale=(0, None)),),
        needs=("java",),
        source="Liu et al., ICCV 2017",
    )
)
def spider(inputs: Inputs) -> dict[str, SummedScore]:
    """(CIDEr-D + SPICE) / 2, mean over images; it needs what SPICE needs."""
    spice = spice_of_each(inputs)
    return {"spider": mean_score([50 * (c + s) for c, s in zip(cider_of_each(inputs), spice, strict=True)])}
