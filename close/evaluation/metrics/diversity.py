"""What captions are like, whatever their quality: how varied, how new, how long.

Distinct-n: Li et al. (2016), "A Diversity-Promoting Objective Function for Neural Conversation Models".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from close.errors import DataError
from close.evaluation.metrics.base import METRICS, Inputs, Metric
from close.evaluation.metrics.words import words as words_of

__all__ = ["diversity"]

FAR = 1.25
"""Times as many words as the references have, or as few, that are told."""


@METRICS.register(
    Metric("diversity", "caption", (), automatic=True, source="Distinct-n: Li et al., NAACL 2016"),
)
def described(inputs: Inputs) -> dict[str, Any]:
    """How varied the captions are, and how long: in words, against the references'."""
    found = diversity([inputs.predictions[key] for key in inputs.ids])
    wanted = [np.mean([len(words_of(text)) for text in inputs.references[key]]) for key in inputs.ids]
    ratio = found["length"]["mean"] / max(float(np.mean(wanted)), 1e-9)
    made: dict[str, Any] = {"diversity": found, "length_ratio": ratio}
    if not 1 / FAR <= ratio <= FAR:
        made["notes"] = {
            "length_ratio": f"captions have {ratio:.2f} times the words of the references, and scores pay for it: "
            "`close match-length` makes a run tell as much as its training texts"
        }
    return made


def diversity(captions: Sequence[str], training: Iterable[str] | None = None) -> dict[str, Any]:
    """Statistics of captions over their words, in any script (`close.evaluation.metrics.words`).

    Args:
        captions: N captions, one an image.
        training: captions that were trained on; without them there is no `novel`.
    Returns:
        `distinct_1`, `distinct_2` (share of different n-grams among all, 0–100), `vocabulary` (different words),
        `unique` (share of different captions, 0–100), `novel` (share that was not trained on, 0–100, or None),
        `length` (`mean`, `sd`, `min`, `max`, in words), `empty` (captions without a word).
    Raises:
        DataError: there are no captions.
    """
    if not captions:
        raise DataError("there are no captions to describe")
    tokens = [tuple(words_of(caption)) for caption in captions]
    lengths = np.array([len(words) for words in tokens])
    known = {tuple(words_of(caption)) for caption in training} if training is not None else None
    return {
        "distinct_1": _distinct(tokens, 1),
        "distinct_2": _distinct(tokens, 2),
        "vocabulary": len({word for words in tokens for word in words}),
        "unique": 100 * len(set(tokens)) / len(tokens),
        "novel": None if known is None else 100 * sum(words not in known for words in tokens) / len(tokens),
        "length": {
            "mean": float(lengths.mean()),
            "sd": float(lengths.std()),
            "min": int(lengths.min()),
            "max": int(lengths.max()),
        },
        "empty": int((lengths == 0).sum()),
    }


def _distinct(tokens: Sequence[tuple[str, ...]], n: int) -> float:
    grams = [words[i : i + n] for words in tokens for i in range(len(words) - n + 1)]
    return 100 * len(set(grams)) / len(grams) if grams else 0.0
