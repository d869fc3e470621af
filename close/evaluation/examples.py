"""The examples that an evaluation shows: the best, the worst, and some that nobody chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from close.data.rows import Row
from close.evaluation.bootstrap import Scores

__all__ = ["pick_examples"]


def pick_examples(
    scores: Scores, measure: str, rows: Mapping[str, Row], texts: Mapping[str, str], *, count: int = 6, seed: int = 0
) -> dict[str, Any]:
    """Choose examples by one measure; among equals, and for `random`, the seed decides.

    Args:
        rows, texts: id to row and to what the model said.
    Returns:
        `measure`, and under `best`, `worst`, `random` up to `count` examples each: `id`, `image`, `source` (where there
        is no image), `context`, `prediction`, `references`, `score`. No example is both among the best and the worst.
    """
    values, rng = scores.metrics[measure].per_example, np.random.default_rng(seed)
    order = np.lexsort((rng.permutation(len(values)), values))
    count = min(count, len(order) // 2) or 1
    chosen = {
        "best": order[::-1][:count],
        "worst": order[:count] if len(order) > 1 else order[:0],
        "random": rng.permutation(len(order))[:count],
    }
    return {"measure": measure} | {
        name: [
            _example(rows[scores.ids[i]], texts[scores.ids[i]], float(values[i]))
            for i in (int(place) for place in places)
        ]
        for name, places in chosen.items()
    }


def _example(row: Row, text: str, score: float) -> dict[str, Any]:
    return {
        "id": row.id,
        "image": str(row.image) if row.image else None,
        "source": None if row.image or not row.source else row.source[0],
        "context": row.context,
        "prediction": text,
        "references": list(row.references or row.answers or ((row.label,) if row.label else row.target or row.source)),
        "score": round(score, 4),
    }
