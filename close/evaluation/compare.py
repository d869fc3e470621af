"""Two sides on identical examples, of one run or of several seeds each: which is better, and could it be chance?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from close.data.rows import Row
from close.data.shards import is_rows, open_rows
from close.errors import DataError, MismatchError, MissingError, RecipeError
from close.evaluation.bootstrap import Scores, compare_summed, pooled
from close.evaluation.examples import pick_differences
from close.evaluation.images import one_row_an_image, pictured
from close.evaluation.match import Matched, match
from close.evaluation.metrics import METRICS, VqaReference
from close.evaluation.metrics.tokens import settled
from close.evaluation.read import RowReferences, read_predictions, read_references
from close.evaluation.scores import score
from close.io.files import read_json
from close.tasks import get_task

__all__ = ["Paths", "compare", "compare_scores", "row_of", "runs_of", "scored", "what_they_share"]

Paths = str | Path | Sequence[str | Path]


def compare_scores(
    a: Scores | Sequence[Scores],
    b: Scores | Sequence[Scores],
    *,
    clusters: Sequence[Hashable] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Paired tests of every measure that all have: see `close.evaluation.bootstrap.compare_summed`, which takes `clusters`.

    Runs of one side are pooled (`close.evaluation.bootstrap.pooled`), and stand one by one under `runs_a` and `runs_b`: interval
    and test are over examples, how far seeds lie apart is to be seen there.

    Raises:
        MismatchError: they are not about the same examples in the same order.
    """
    sides = [[side] if isinstance(side, Scores) else list(side) for side in (a, b)]
    every = [one for side in sides for one in side]
    for other in every[1:]:
        _same_examples(every[0], other)
    found = {}
    for name in every[0].metrics:
        if all(name in one.metrics for one in every):
            runs = [[one.metrics[name] for one in side] for side in sides]
            found[name] = compare_summed(*map(pooled, runs), clusters=clusters, samples=samples, seed=seed)
            if len(every) > 2:
                values = ([one.value for one in side] for side in runs)
                found[name] |= dict(zip(("runs_a", "runs_b"), values, strict=True))
    return found


def _same_examples(a: Scores, b: Scores) -> None:
    if a.ids != b.ids:
        only = sorted(set(a.ids) ^ set(b.ids))
        raise MismatchError(
            f"the runs are not on identical examples: {len(a.ids)} and {len(b.ids)}"
            + (f", {len(only)} in one only (first: {only[0]!r})" if only else ", in another order")
        )


def compare(
    a: Paths,
    b: Paths,
    *,
    references: str | Path | None = None,
    task: str | None = None,
    name: str | None = None,
    tokenizer: str = "auto",
    samples: int = 1000,
    examples: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare evaluated runs, or files of predictions.

    Args:
        a, b: folders of runs with one evaluation in common, folders of such runs, folders of evaluations, or prediction files;
            several for one side are its seeds, and count together.
        references: needed for prediction files; for runs, where the data file is now, if it has moved.
        task: needed for prediction files: caption, vqa or entailment.
        name: which of the evaluations that all runs have.
        examples: how many to show for each side that is better on them.
    Returns:
        `a`, `b` (the runs of each), `task`, `n`, `data`, `measures`: name to `a`, `b`, `difference` (b − a), `ci`, `p` (with
        several runs also `runs_a`, `runs_b`), and `examples`: see `close.evaluation.examples.pick_differences`.
    Raises:
        MissingError: no evaluation, or no data file. MismatchError: other data, other examples, another task.
        RecipeError: more has to be said.
    """
    sides = [runs_of(a), runs_of(b)]
    task, files, truth, data, rows = what_they_share([path for side in sides for path in side], references, task, name)
    both = [match(task, read_predictions(file, task), truth) for file in files]
    scores, count = scored(task, both, tokenizer), len(sides[0])
    images = pictured(scores[0].ids, both[0].references)
    measures = compare_scores(scores[:count], scores[count:], clusters=images, samples=samples, seed=seed)
    result: dict[str, Any] = {name: [str(path) for path in paths] for name, paths in zip("ab", sides, strict=True)}
    result |= {"task": task, "data": data, "n": len(scores[0].ids), "measures": measures}
    shown = next((key for key in (METRICS.primary(task), *measures) if key in measures), None)
    if shown is not None:
        known = {key: rows.get(key) or row_of(key, both[0].references[key]) for key in scores[0].ids}
        first, second = ([(one.metrics[shown], said.predictions) for one, said in zip(scores, both, strict=True)][part]
                         for part in (slice(count), slice(count, None)))  # fmt: skip
        result["examples"] = pick_differences(shown, first, second, scores[0].ids, known, count=examples, seed=seed)
    return result


def what_they_share(
    runs: Sequence[Path], references: str | Path | None, task: str | None, name: str | None
) -> tuple[str, Sequence[Path], Mapping[str, Any], str, Mapping[str, Row]]:
    """Kind of task, files of predictions, references, data file, and its rows by id where it has rows."""
    if all(path.is_dir() for path in runs):
        return _same_data(_evaluations(runs, name), references)
    if references is None or task is None:
        raise RecipeError("to compare files of predictions, say the references and the task")
    rows = {row.id: row for row in one_row_an_image(open_rows(references), task)} if is_rows(references) else {}
    return task, runs, read_references(references, task), str(references), rows


def runs_of(paths: Paths) -> list[Path]:
    """The runs or files of a side; of a folder that holds runs, all of them."""
    found: list[Path] = []
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        place = Path(path)
        if not _is_there(place):
            raise MissingError(f"{place}: no such file or folder")
        one = not place.is_dir() or (place / "scores.json").is_file() or (place / "evaluations").is_dir()
        found += [place] if one else sorted(p.parent for p in place.glob("*/evaluations")) or [place]
    if not found:
        raise RecipeError("a comparison needs at least one run on each side")
    return found


def scored(task: str, both: Sequence[Matched], tokenizer: str) -> list[Scores]:
    """Scores of each run; where all were evaluated on the same part of the data (a limit), on that part."""
    said, wanted = [one.predictions for one in both], both[0].references
    if all(one.keys() == said[0].keys() for one in said) and len(said[0]) < len(wanted):
        wanted = {key: value for key, value in wanted.items() if key in said[0]}
    metrics = METRICS.defaults(task, java=False)
    if all(isinstance(one, (list, tuple)) for one in wanted.values()):  # captions, counted alike in all
        tokenizer, _ = settled(tokenizer, chain(*wanted.values(), *(one.values() for one in said)))
    return [score(task, one, wanted, tokenizer=tokenizer, metrics=metrics, samples=0) for one in said]


def row_of(key: str, truth: Any) -> Row:
    """What is known of an example of which only the references are at hand."""
    if isinstance(truth, VqaReference):
        return Row(key, answers=truth.answers)
    return Row(key, label=truth) if isinstance(truth, str) else Row(key, references=tuple(truth))


def _evaluations(runs: Sequence[Path], name: str | None) -> list[Path]:
    """The folders of the evaluation that is compared."""
    if all((run / "scores.json").is_file() for run in runs):
        return list(runs)
    have = [{p.parent.name for p in (run / "evaluations").glob("*/scores.json")} for run in runs]
    common, named = sorted(set.intersection(*have)), " and ".join(dict.fromkeys(map(str, runs)))
    if not common:
        raise MissingError(f"{named} have no evaluation in common; `close evaluate` makes one")
    if name is None and len(common) > 1:
        raise RecipeError(f"{named} have several evaluations in common, choose one: {', '.join(common)}")
    name = name or common[0]
    if name not in common:
        raise MissingError(f"{named} have no evaluation {name!r} in common, but {', '.join(common)}")
    return [run / "evaluations" / name for run in runs]


def _same_data(
    places: Sequence[Path], references: str | Path | None
) -> tuple[str, Sequence[Path], Mapping[str, Any], str, Mapping[str, Row]]:
    """What `_what` gives, of evaluations, which must be of one task on one data file."""
    first, *others = [_facts(place) for place in places]
    for place, facts in zip(places[1:], others, strict=True):
        for key, what in (("task", "task"), ("data_sha256", "data")):
            if first[key] != facts[key]:
                raise MismatchError(
                    f"{places[0]} and {place} are of different {what}: {first[key][:80]!r} and {facts[key][:80]!r}"
                )
    data = Path(references or first["data"])
    if not _is_there(data):
        raise MissingError(
            f"{str(data)[:300]}: the data file of the evaluations is not there; say where it is (references)"
        )
    rows = open_rows(data)
    if rows.sha256 != first["data_sha256"]:
        raise MismatchError(f"{data} has changed since {places[0]} was evaluated")
    kind = get_task(first["task"]).metric
    files = [place / "predictions.jsonl" for place in places]
    return kind, files, RowReferences(rows, kind), str(data), {row.id: row for row in one_row_an_image(rows, kind)}


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # of a name that no file can have
        return False


def _facts(place: Path) -> dict[str, str]:
    """Task and data of an evaluation."""
    path = place / "scores.json"
    found = read_json(path)
    for key in ("task", "data", "data_sha256"):
        if not isinstance(found, dict) or not isinstance(found.get(key), str):
            raise DataError(f"{path}: not an evaluation as `close evaluate` writes it, no text under {key!r}")
    return {key: found[key] for key in ("task", "data", "data_sha256")}
