"""Two sides on identical examples, of one run or of several seeds each: which is better, and could it be chance?"""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from close.data.rows import Row
from close.data.shards import open_rows
from close.errors import DataError, MismatchError, MissingError, RecipeError, shown
from close.evaluation.bootstrap import Scores, compare_summed, pooled
from close.evaluation.examples import pick_differences
from close.evaluation.images import one_row_an_image, part_of, pictured
from close.evaluation.match import Matched, match
from close.evaluation.metrics import METRICS, Metric, VqaReference
from close.evaluation.metrics.tokens import settled
from close.evaluation.read import Predictions, RowReferences, read_predictions, read_references
from close.evaluation.saved import changed_search, made_otherwise, made_with, not_compared, saved_scores
from close.evaluation.scores import score
from close.evaluation.seeds import apart, over_seeds, scope
from close.io.files import read_json
from close.io.plain import read_plain
from close.plugins import changed_plugins, check_plugins
from close.tasks import TASKS, get_task

__all__ = ["Paths", "Shared", "compare", "compare_scores", "runs_of", "scored", "what_they_share"]

Paths = str | Path | Sequence[Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """What several runs have in common.

    Attributes:
        task: its kind. data: the data file.
        matched: predictions and references, one a run; all against the captions of an image's rows together, or all row by row.
        rows: of the examples, by id, where the data has rows.
        left_out: examples whose pictures could not be read, where evaluations leave such out.
        saved: of evaluations, the scores that each has.
    """

    task: str
    data: str
    matched: list[Matched]
    rows: Mapping[str, Row]
    left_out: int = 0
    saved: Sequence[Collection[str]] = ()

    def known(self, ids: Sequence[str]) -> dict[str, Row]:
        """What is known of examples."""
        return {key: self.rows.get(key) or _row_of(key, self.matched[0].references[key]) for key in ids}

    def facts(self, count: int, compared: Collection[str]) -> dict[str, Any]:
        """What a result of so many examples says of them, and which saved scores are not among those that are compared."""
        left = not_compared(self.saved, compared)
        return {
            "task": self.task,
            "data": self.data,
            "n": count,
            **({"left_out": self.left_out} if self.left_out else {}),
            **({"not_compared": left} if left else {}),
        }


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
    and test are over examples, how far seeds lie apart is to be seen there, and under `over_seeds`
    (`close.evaluation.seeds.over_seeds`).

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
                first, second = ([one.value for one in side] for side in runs)
                found[name] |= {"runs_a": first, "runs_b": second, "over_seeds": over_seeds(first, second)}
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
        a, b: folders of runs, or loaded ones, with one evaluation in common, folders of such runs, folders of evaluations, or
            prediction files; several for one side are its seeds, and count together.
        references: needed for prediction files; for runs, where the data file is now, if it has moved.
        task: needed for prediction files: caption, vqa or entailment.
        name: which of the evaluations that all runs have.
        examples: how many to show for each side that is better on them.
    Returns:
        `a`, `b` (the runs of each), `task`, `n`, `data`, `left_out` (of evaluations that leave out pictures that can't be read,
        how many), `not_compared` (saved scores by name, and why they are not among the measures), `measures`: name to `a`, `b`,
        `difference` (b − a), `ci`, `p` (with several runs also `runs_a`, `runs_b` and `over_seeds`: `difference` and `ci`),
        `over` (what `ci` and `p` are over, in words), `warning` (where runs of a side lie further apart than `ci` is wide), and
        `examples`: see `close.evaluation.examples.pick_differences`.
    Raises:
        MissingError: no evaluation, or no data file. MismatchError: other data, other examples, another task.
        RecipeError: more has to be said.
    """
    sides = [runs_of(a), runs_of(b)]
    shared = what_they_share([path for side in sides for path in side], references, task, name)
    both, count = shared.matched, len(sides[0])
    scores = scored(shared, tokenizer)
    images = pictured(scores[0].ids, both[0].references)
    measures = compare_scores(scores[:count], scores[count:], clusters=images, samples=samples, seed=seed)
    result: dict[str, Any] = {name: [str(path) for path in paths] for name, paths in zip("ab", sides, strict=True)}
    result |= shared.facts(len(scores[0].ids), measures) | {"measures": measures, "over": scope(len(scores[0].ids))}
    shown = METRICS.shown(shared.task, measures)
    if warning := apart(measures, shown):
        result["warning"] = warning
    if shown is not None:
        known = shared.known(scores[0].ids)
        first, second = ([(one.metrics[shown], said.texts) for one, said in zip(scores, both, strict=True)][part]
                         for part in (slice(count), slice(count, None)))  # fmt: skip
        result["examples"] = pick_differences(shown, first, second, scores[0].ids, known, count=examples, seed=seed)
    return result


def what_they_share(runs: Sequence[Path], references: str | Path | None, task: str | None, name: str | None) -> Shared:
    """What runs by folder, or files of predictions, have in common."""
    if all(path.is_dir() for path in runs):
        return _same_data(_evaluations(runs, name), references)
    if references is None or task is None:
        raise RecipeError("to compare files of predictions, say the references and the task")
    truth = read_references(references, task)
    matched = _matched(task, [read_predictions(file, task) for file in runs], truth)
    rows = open_rows(references) if isinstance(truth, RowReferences) else ()
    return Shared(task, str(references), matched, _by_id(rows, task, matched, truth))


def _matched(task: str, said: Sequence[Predictions], truth: Mapping[str, Any], *, alone: bool = False) -> list[Matched]:
    """All alike: row by row (`alone`) where any of them says other things of one image's rows."""
    found = [match(task, one, truth) for one in said]
    if not isinstance(truth, RowReferences) or not (alone or any(one.references is truth.single for one in found)):
        return found
    return [match(task, one, truth.single) for one in said]


def _by_id(rows: Iterable[Row], task: str, matched: Sequence[Matched], truth: Any) -> dict[str, Row]:
    alone = isinstance(truth, RowReferences) and matched[0].references is truth.single
    return {row.id: row for row in (rows if alone else one_row_an_image(rows, task))}


def runs_of(paths: Paths) -> list[Path]:
    """The runs or files of a side; of a folder that holds runs, all of them."""
    found: list[Path] = []
    for path in [paths] if isinstance(paths, (str, Path)) or not isinstance(paths, Iterable) else paths:
        place = getattr(path, "folder", path)  # of a run that is loaded
        if not isinstance(place, (str, Path)):
            raise RecipeError(f"runs are compared by their folders, and predictions by their files, not {shown(path)}")
        place = Path(place)
        if not _is_there(place):
            raise MissingError(f"{place}: no such file or folder")
        one = not place.is_dir() or (place / "scores.json").is_file() or (place / "evaluations").is_dir()
        found += [place] if one else sorted(p.parent for p in place.glob("*/evaluations")) or [place]
    if not found:
        raise RecipeError("a comparison needs at least one run on each side")
    return found


def scored(shared: Shared, tokenizer: str) -> list[Scores]:
    """Scores of each run, all that texts and rows give; where all were evaluated on one part of the data (a limit), on that."""
    task, both = shared.task, shared.matched
    said, wanted = [one.predictions for one in both], both[0].references
    if all(one.keys() == said[0].keys() for one in said) and len(said[0]) < len(wanted):
        wanted = {key: value for key, value in wanted.items() if key in said[0]}
    metrics = [one.name for one in METRICS.of(task) if not one.needs and (one.default or _saved_by_all(one, shared))]
    if all(isinstance(one, (list, tuple)) for one in wanted.values()):  # captions, counted alike in all
        tokenizer, _ = settled(tokenizer, chain(*wanted.values(), *(one.values() for one in said)))
    settings: dict[str, Any] = {"tokenizer": tokenizer, "metrics": metrics, "rows": shared.rows or None}
    return [score(task, one, wanted, samples=0, **settings) for one in said]


def _saved_by_all(metric: Metric, shared: Shared) -> bool:
    """Whether all evaluations were asked for a metric."""
    return bool(shared.saved) and any(all(one.key in have for have in shared.saved) for one in metric.scores)


def _row_of(key: str, truth: Any) -> Row:
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


def _same_data(places: Sequence[Path], references: str | Path | None) -> Shared:
    """Of evaluations, which must be of one task on one data file."""
    every = [_facts(place) for place in places]
    first = every[0]
    for place, facts in zip(places[1:], every[1:], strict=True):
        for key, what in (("task", "task"), ("data_sha256", "data")):
            if first[key] != facts[key]:
                raise MismatchError(
                    f"{places[0]} and {place} are of different {what}: {first[key][:80]!r} and {facts[key][:80]!r}"
                )
        if other := made_otherwise(first["made_with"], facts["made_with"]):
            _log.warning(
                "%s and %s: evaluated with %s, so not the runs alone differ; evaluate both alike (`close evaluate`)",
                places[0],
                place,
                other,
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
    truth, said = RowReferences(rows, kind), [read_predictions(place / "predictions.jsonl", kind) for place in places]
    found = _matched(kind, said, truth, alone=any(facts.get("modality") == "text" for facts in every))
    known = _by_id(rows, kind, found, truth)
    found = [_whole(kind, one, facts) for one, facts in zip(found, every, strict=True)]
    skipped = [(one, facts) for one, facts in zip(found, every, strict=True) if facts.get("missing") == "skip"]
    fewer = [facts["rows"] - len(one.predictions) for one, facts in skipped if "rows" in facts]
    return Shared(kind, str(data), found, known, max([0, *fewer]), [facts["saved"] for facts in every])


def _whole(kind: str, found: Matched, facts: Mapping[str, Any]) -> Matched:
    """With the examples that an evaluation counted as nothing said: of the first `rows`, those that no prediction is of."""
    if facts.get("missing") != "zero":
        return found
    examples = part_of(found.references, list(islice(found.references, facts.get("rows"))))
    return match(kind, found.predictions, examples, "zero")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # of a name that no file can have
        return False


def _facts(place: Path) -> dict[str, Any]:
    """Task, data and scores of an evaluation, and with what it was made; where it says them, modality, rows, missing ones."""
    path = place / "scores.json"
    found = read_json(path)
    for key in ("task", "data", "data_sha256"):
        if not isinstance(found, dict) or not isinstance(found.get(key), str):
            raise DataError(f"{path}: not an evaluation as `close evaluate` writes it, no text under {key!r}")
    if found["task"] not in TASKS and isinstance(plugins := found.get("plugins"), list):
        check_plugins([name for name in plugins if isinstance(name, str)], f"{place}")
    run = place.parent.parent if place.parent.name == "evaluations" else place
    if changed := changed_search(found, run):
        _log.warning(
            "%s: evaluated with %s: another search was asked for, or the run was changed since, as by close match-length; "
            "`close evaluate` without it shows, in place of this, what the run says now",
            place,
            changed,
        )
    said = read_plain(run / "run.json") if (run / "run.json").is_file() else {}
    if other := changed_plugins(said, found):
        _log.warning("%s: evaluated with other code of %s than its run was trained with", place, ", ".join(other))
    told = {key: found[key] for key in ("modality", "missing") if isinstance(found.get(key), str)}
    told |= {"saved": saved_scores(found), "made_with": made_with(found, run)}
    if isinstance(found.get("rows"), int) and found["rows"] > 0:
        told["rows"] = found["rows"]
    return {key: found[key] for key in ("task", "data", "data_sha256")} | told
