"""Of statements that are asked of several pairs, those that are judged right for every one (NLVR2)."""

from __future__ import annotations

from typing import Any

from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score

__all__ = ["consistency"]


def _has_statements(inputs: Inputs) -> bool:
    return inputs.rows is not None and all("statement" in inputs.rows[key].meta for key in inputs.ids)


@METRICS.register(
    Metric(
        "consistency",
        "entailment",
        (Score("consistency", "Consistency", single=False),),
        applies=_has_statements,
        automatic=True,
        source="Suhr et al. (2019), A Corpus for Reasoning About Natural Language Grounded in Photographs",
    )
)
def consistency(inputs: Inputs) -> dict[str, Any]:
    """The share of statements with every pair right, for rows whose `meta` names their `statement`; as NLVR2's own script."""
    right: dict[str, bool] = {}
    for key, row in ((key, (inputs.rows or {})[key]) for key in inputs.ids):
        same = inputs.predictions[key].strip().lower() == inputs.references[key].strip().lower()
        name = str(row.meta["statement"])
        right[name] = right.get(name, True) and same
    return {"consistency": 100 * sum(right.values()) / len(right)}
