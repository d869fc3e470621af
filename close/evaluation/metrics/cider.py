"""CIDEr-D: Vedantam et al. (2015), as pycocoevalcap computes it."""

from __future__ import annotations

from close.evaluation.bootstrap import SummedScore, mean_score
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score

__all__ = ["cider"]


@METRICS.register(
    Metric(
        "cider",
        "caption",
        (Score("cider", "CIDEr", scale=(0, None), headline=True),),
        primary=True,
        default=True,
        source="Vedantam et al., CVPR 2015",
    )
)
def cider(inputs: Inputs) -> dict[str, SummedScore]:
    """CIDEr-D, mean over images; document frequencies are those of the whole set."""
    from pycocoevalcap.cider.cider import Cider

    return {"cider": mean_score(100 * Cider().compute_score(*inputs.tokens)[1])}
