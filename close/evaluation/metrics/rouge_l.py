"""ROUGE-L: Lin (2004), as pycocoevalcap computes it."""

from __future__ import annotations

from close.evaluation.bootstrap import SummedScore, mean_score
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score

__all__ = ["rouge_l"]


@METRICS.register(
    Metric(
        "rouge_l",
        "caption",
        (Score("rouge_l", "ROUGE-L"),),
        default=True,
        source="Lin, ACL workshop 2004",
    )
)
def rouge_l(inputs: Inputs) -> dict[str, SummedScore]:
    """ROUGE-L, mean over images."""
    from pycocoevalcap.rouge.rouge import Rouge

    return {"rouge_l": mean_score(100 * Rouge().compute_score(*inputs.tokens)[1])}
