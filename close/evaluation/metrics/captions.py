"""Caption scores as papers print them: BLEU-1..4, ROUGE-L, CIDEr-D, METEOR, SPICE, and whatever else is registered.

The scorers are pycocoevalcap's own, fed with Penn Treebank tokens or with words; the result names the tokenizer that was used.
METEOR and SPICE are Java programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from close.errors import DataError
from close.evaluation.bootstrap import Scores, intervals
from close.evaluation.images import pictured
from close.evaluation.metrics.base import METRICS, Inputs, compute
from close.evaluation.metrics.ids import about_id
from close.evaluation.metrics.tokens import settled

__all__ = ["caption_scores"]


def caption_scores(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    kind: str = "caption",
    tokenizer: str = "auto",
    metrics: Iterable[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    **more: Any,
) -> Scores:
    """Score one caption per image against its references.

    Args:
        predictions: image id to caption.
        references: image id to captions; images without a prediction are left out and counted in `missing`.
        kind: of the task, where it is scored as captions are: by metrics of its own.
        tokenizer: "java" or "python" (Penn Treebank tokens, as published), "unicode" (words of any script), or "auto": Java where
            it is installed, else Python; but the words of any script where those tokens lose more than one character in a
            hundred, which the result's notes say. Starting Java costs half a second.
        metrics: names in `METRICS`; without them, the default ones of captions.
        more: what else `Inputs` holds, for metrics that need it.
        samples: bootstrap resamples for the intervals; 0 for none.
        seed: of the bootstrap.

    Returns:
        Scores on the scale of 0–100 (CIDEr can pass 100): `bleu_1` … `bleu_4`, `rouge_l`, `cider`, `meteor`, `spice` (None where
        not computed), `n` (images scored), `tokenizer` ("java", "python", "unicode"), `ci` (name to [low, high], 95 %),
        `missing` (references without a prediction), `notes` (name to why it was not computed, or what to know of it).
    Raises:
        DataError: a prediction has no references, an image has none, or there is nothing to score.
        MissingError: `tokenizer="java"`, and there is no `java` on the PATH.
        UnknownNameError: no such metric or tokenizer.
    """
    chosen = list(METRICS.defaults(kind) if metrics is None else metrics)
    ids = _checked(predictions, references)
    used, odd = settled(tokenizer, chain([predictions[i] for i in ids], *(references[i] for i in ids)))
    summed, values, notes = compute(kind, chosen, Inputs(ids, predictions, references, used, **more))
    if odd:
        notes["tokenizer"] = f"words of any script were counted (unicode): {odd}" if used == "unicode" else odd
    keys = [score.key for name in dict.fromkeys([*METRICS.defaults(kind), *chosen]) for score in METRICS[name].scores]
    scores: dict[str, Any] = {key: summed[key].value if key in summed else None for key in [*keys, *summed]}
    drawn = intervals(summed, clusters=pictured(ids, references), samples=samples, seed=seed)
    scores |= {"n": len(ids), "tokenizer": used, "ci": drawn}
    return Scores(scores | {"missing": len(references) - len(ids), "notes": notes} | values, ids, summed)


def _checked(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> list[str]:
    """The ids to score, in the order of the references."""
    for key in predictions:
        if not references.get(key):
            raise DataError(f"prediction {key!r} has no reference captions{about_id(key, references)}")
    for key, value in predictions.items():
        if not isinstance(value, str):
            raise DataError(f"prediction {key!r} is {value!r}; expected a caption")
    if not predictions:
        raise DataError("there are no predictions to score")
    return [key for key in references if key in predictions]
