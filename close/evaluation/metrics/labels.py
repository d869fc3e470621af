"""Accuracy over a closed set of labels, with the table of what was taken for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from close.errors import DataError
from close.evaluation.bootstrap import Scores, SummedScore, intervals, mean_score
from close.evaluation.images import pictured
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score
from close.evaluation.metrics.ids import about_id

__all__ = ["label_accuracy", "label_scores"]


def label_scores(
    predictions: Mapping[str, str], labels: Mapping[str, str], *, samples: int = 1000, seed: int = 0
) -> Scores:
    """Score predicted labels (id to label) against the true ones; case and outer white space do not count.

    Returns:
        `accuracy` (0–100), `confusion` (true label to predicted label to count), `per_label` (recall of each true label),
        `n`, `ci` (`accuracy` to [low, high]).
    Raises:
        DataError: the two are not about the same examples, or there is none.
    """
    if not labels:
        raise DataError("there are no labels to score")
    missing, foreign = labels.keys() - predictions.keys(), predictions.keys() - labels.keys()
    if missing or foreign:
        like = about_id(min(foreign), labels) if foreign else ""
        raise DataError(
            f"{len(missing)} examples have no prediction and {len(foreign)} predictions no true label"
            f" (first: {min(missing or foreign)!r}); both sides need the same ids{like}"
        )
    ids = list(labels)
    true, said = ([side[key].strip().lower() for key in ids] for side in (labels, predictions))
    pairs = Counter(zip(true, said, strict=True))
    names, columns = sorted(set(true)), sorted(set(true) | set(said))
    right = label_accuracy(Inputs(ids, predictions, labels))
    values = {
        "accuracy": right["accuracy"].value,
        "confusion": {name: {column: pairs[name, column] for column in columns} for name in names},
        "per_label": {name: 100 * pairs[name, name] / true.count(name) for name in names},
        "n": len(ids),
        "ci": intervals(right, clusters=pictured(ids, labels), samples=samples, seed=seed),
    }
    return Scores(values, ids, right)


@METRICS.register(
    Metric(
        "label_accuracy",
        "entailment",
        (Score("accuracy", "Accuracy", headline=True),),
        primary=True,
        default=True,
    )
)
def label_accuracy(inputs: Inputs) -> dict[str, SummedScore]:
    """The share of right labels; case and outer white space do not count."""
    pairs = ((inputs.references[key], inputs.predictions[key]) for key in inputs.ids)
    return {"accuracy": mean_score([100.0 * (a.strip().lower() == b.strip().lower()) for a, b in pairs])}
