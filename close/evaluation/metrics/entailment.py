"""Accuracy over a closed set of labels, with the table of what was taken for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from close.errors import DataError
from close.evaluation.bootstrap import Scores, intervals, mean_measure

__all__ = ["label_scores"]


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
        raise DataError(
            f"{len(missing)} examples have no prediction and {len(foreign)} predictions no true label"
            f" (first: {min(missing or foreign)!r}); both sides need the same ids"
        )
    ids = list(labels)
    true = [labels[key].strip().lower() for key in ids]
    said = [predictions[key].strip().lower() for key in ids]
    pairs = Counter(zip(true, said, strict=True))
    names, columns = sorted(set(true)), sorted(set(true) | set(said))
    measure = mean_measure([100.0 * (a == b) for a, b in zip(true, said, strict=True)])
    values = {
        "accuracy": measure.value,
        "confusion": {name: {column: pairs[name, column] for column in columns} for name in names},
        "per_label": {name: 100 * pairs[name, name] / true.count(name) for name in names},
        "n": len(ids),
        "ci": intervals({"accuracy": measure}, samples=samples, seed=seed),
    }
    return Scores(values, ids, {"accuracy": measure})
