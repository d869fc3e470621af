"""Any number of runs on identical examples, side by side: their scores, and what each says of the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from close.errors import RecipeError
from close.evaluation.bootstrap import Scores, intervals, pooled
from close.evaluation.compare import Paths, runs_of, scored, what_they_share
from close.evaluation.examples import about
from close.evaluation.images import pictured
from close.evaluation.match import Matched
from close.evaluation.metrics import METRICS

__all__ = ["side_by_side"]

WRONG, LOWEST = 50.0, 25.0
"""An answer is wrong below this score; a caption is poor where its score is in this percentage of all that were given."""


def side_by_side(
    groups: Mapping[str, Paths],
    *,
    references: str | Path | None = None,
    task: str | None = None,
    name: str | None = None,
    tokenizer: str = "auto",
    samples: int = 1000,
    examples: int = 60,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of evaluated runs with intervals, and examples with what each of them says.

    Args:
        groups: name to the run, or to several seeds, which count together; as in `close.evaluation.compare.compare`.
        references: needed for prediction files; for runs, where the data file is now, if it has moved.
        task: needed for prediction files: caption, vqa or entailment.
        name: which of the evaluations that all runs have.
        examples: how many at most are shown, chosen by the seed and nothing else.
    Returns:
        `task`, `n`, `data`, `left_out`, `not_compared` (as of `compare`), `measure`; `groups`: `name`, `runs`, `scores` and their
        intervals `ci` over examples; `examples`:
        `id`, `image`, `source`, `context`, `references`, `texts` (`text` and `score` of each group's first run), `differs` (not
        all say the same), `poor` (somebody is wrong, or among the lowest quarter).
    Raises:
        RecipeError: no group, or more has to be said. MissingError: no evaluation, or no data file.
        MismatchError: other data, other examples, another task.
    """
    if not groups:
        raise RecipeError("a page of runs needs at least one run")
    sides = {title: runs_of(paths) for title, paths in groups.items()}
    every = [path for side in sides.values() for path in side]
    shared = what_they_share(every, references, task, name)
    matched, scores = shared.matched, scored(shared, tokenizer)
    measures = [key for key in scores[0].metrics if all(key in one.metrics for one in scores)]
    shown = METRICS.shown(shared.task, measures)
    result = shared.facts(len(scores[0].ids), measures) | {"measure": shown, "groups": [], "examples": []}
    images = pictured(scores[0].ids, matched[0].references)
    ends = np.cumsum([len(side) for side in sides.values()])
    for (title, side), end in zip(sides.items(), ends, strict=True):
        own = scores[end - len(side) : end]
        both = {key: pooled([one.metrics[key] for one in own]) for key in measures}
        values = {key: value.value for key, value in both.items()}
        told = {"name": title, "runs": [str(path) for path in side], "scores": values}
        result["groups"].append(told | {"ci": intervals(both, clusters=images, samples=samples, seed=seed)})
    if shown is not None:
        known = shared.known(scores[0].ids)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(known))[:examples])
        firsts = [int(end) - len(side) for end, side in zip(ends, sides.values(), strict=True)]
        result["examples"] = _examples(shown, [(scores[i], matched[i]) for i in firsts], known, chosen)
    return result


def _examples(
    measure: str, runs: Sequence[tuple[Scores, Matched]], rows: Mapping[str, Any], chosen: Any
) -> list[dict[str, Any]]:
    values = np.stack([scores.metrics[measure].per_example for scores, _ in runs])
    answers = METRICS.score(measure).scale[1] == 100
    sign = METRICS.sign(measure)
    mark, good = sign * WRONG if answers else float(np.percentile(sign * values, LOWEST)), sign * values
    said = [matched.texts for _, matched in runs]
    ids, found = runs[0][0].ids, []
    for place in map(int, chosen):
        texts = [one[ids[place]] for one in said]
        found.append(
            about(rows[ids[place]])
            | {
                "texts": [
                    {"text": text, "score": round(float(value), 4)}
                    for text, value in zip(texts, values[:, place], strict=True)
                ],
                "differs": len({" ".join(text.lower().split()) for text in texts}) > 1,
                "poor": bool((good[:, place] < mark).any() or (not answers and (good[:, place] <= mark).any())),
            }
        )
    return found
