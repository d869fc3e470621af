"""The examples that are shown: the best, the worst, some that nobody chose; of a comparison, those that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from close.data.rows import Row
from close.evaluation.bootstrap import Scores, SummedScore, pooled
from close.evaluation.metrics import METRICS

__all__ = ["about", "pick_differences", "pick_examples"]


def pick_examples(
    scores: Scores, measure: str, rows: Mapping[str, Row], texts: Mapping[str, str], *, count: int = 6, seed: int = 0
) -> dict[str, Any]:
    """Choose examples by one measure; among equals, and for `random`, the seed decides.

    Args:
        rows, texts: id to row and to what the model said.
    Returns:
        `measure`, and under `best`, `worst`, `random` up to `count` examples each: `id`, `image` (of several the first, and all
        under `images`), `source` (where there is no image), `context`, `prediction`, `references`, `score`. No example is both
        among the best and the worst.
    """
    values, rng = scores.metrics[measure].per_example, np.random.default_rng(seed)
    order = np.lexsort((rng.permutation(len(values)), METRICS.sign(measure) * values))
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


def pick_differences(
    measure: str,
    a: Sequence[tuple[SummedScore, Mapping[str, str]]],
    b: Sequence[tuple[SummedScore, Mapping[str, str]]],
    ids: Sequence[str],
    rows: Mapping[str, Row],
    *,
    count: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """The examples that differ most between two sides, by one measure; among equals the seed decides.

    Args:
        a, b: the score and the texts by id of each run of a side. ids: of the N examples. rows: id to row.
    Returns:
        `measure`, `better` (on how many examples `a` is, `b` is, and none is: `same`), and under `b_better` and `a_better` up to
        `count` examples: as of `pick_examples`, but with `a`, `b` (texts, one a run), `score_a`, `score_b` (means of the runs).
    """
    means = [pooled([score for score, _ in side]).per_example for side in (a, b)]
    change = METRICS.sign(measure) * (means[1] - means[0])
    order = np.lexsort((np.random.default_rng(seed).permutation(len(change)), change))
    chosen = {
        "b_better": [i for i in order[::-1][:count] if change[i] > 0],
        "a_better": [i for i in order[:count] if change[i] < 0],
    }
    better = {"a": int((change < 0).sum()), "b": int((change > 0).sum()), "same": int((change == 0).sum())}

    def example(i: int) -> dict[str, Any]:
        texts = {side: [said[ids[i]] for _, said in runs] for side, runs in zip("ab", (a, b), strict=True)}
        scores = {f"score_{side}": round(float(mean[i]), 4) for side, mean in zip("ab", means, strict=True)}
        return about(rows[ids[i]]) | texts | scores

    return {"measure": measure, "better": better} | {
        key: [example(int(i)) for i in found] for key, found in chosen.items()
    }


def _example(row: Row, text: str, score: float) -> dict[str, Any]:
    return about(row) | {"prediction": text, "score": round(score, 4)}


def about(row: Row) -> dict[str, Any]:
    """What pages tell of an example, whatever was said of it."""
    return {
        "id": row.id,
        "image": str(row.image) if row.image else None,
        **({"images": [str(image) for image in row.images]} if len(row.images) > 1 else {}),
        "source": None if row.image or not row.source else row.source[0],
        "context": row.context,
        "references": list(row.references or row.answers or ((row.label,) if row.label else row.target or row.source)),
    }
