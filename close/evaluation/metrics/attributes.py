"""What only the mini world knows: which of a caption's claims are true of its scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from close.evaluation.bootstrap import ratio_score
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score

__all__ = ["attributes"]


def _has_facts(inputs: Inputs) -> bool:
    facts = [inputs.rows[key].meta.get("facts") for key in inputs.ids] if inputs.rows is not None else [None]
    return all(isinstance(one, Mapping) and "things" in one for one in facts)


@METRICS.register(
    Metric(
        "attributes",
        "caption",
        (
            Score("attribute_accuracy", "Attributes right", headline=True),
            Score("attribute_recall", "Attributes named", headline=True, single=False),
            Score("hallucination", "Attributes made up", higher_is_better=False, single=False),
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
    return {
        "attribute_accuracy": ratio_score([one.accuracy for one in single], [one.claims for one in single]),
        "attribute_recall": truth.recall,
        "hallucination": truth.hallucination,
        "claims": truth.claims,
    }
