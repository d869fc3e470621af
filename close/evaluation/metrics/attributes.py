"""What only the mini world knows: which of a caption's claims are true of its scene."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.evaluation.bootstrap import SummedScore
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score

__all__ = ["attributes"]


def _has_facts(inputs: Inputs) -> bool:
    return inputs.rows is not None and all("facts" in inputs.rows[key].meta for key in inputs.ids)


@METRICS.register(
    Metric(
        "attributes",
        "caption",
        (
            Score("attribute_accuracy", "Attributes right", headline=True),
            Score("attribute_recall", "Attributes named", headline=True),
            Score("hallucination", "Attributes made up", higher_is_better=False),
        ),
        applies=_has_facts,
        automatic=True,
    )
)
def attributes(inputs: Inputs) -> dict[str, Any]:
    """Exact truth of claims, for rows whose `meta` holds a scene's facts (`close.mini`); shares are of all captions' claims."""
    from close.mini import attribute_accuracy

    rows = inputs.rows or {}
    texts, facts = [inputs.predictions[key] for key in inputs.ids], [rows[key].meta["facts"] for key in inputs.ids]
    truth = attribute_accuracy(texts, facts)
    single = [attribute_accuracy([text], [fact]) for text, fact in zip(texts, facts, strict=True)]
    shares, claims = (np.array(values) for values in zip(*((one.accuracy, one.claims) for one in single), strict=True))
    return {
        "attribute_accuracy": SummedScore(shares, np.stack([shares * claims, claims], axis=1), _share),
        "attribute_recall": truth.recall,
        "hallucination": truth.hallucination,
        "claims": truth.claims,
    }


def _share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return sums[..., 0] / np.maximum(sums[..., 1], 1)  # 0 where nothing is claimed
