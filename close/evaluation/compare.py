"""Two runs on identical examples: which is better, and could it be chance?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from close.data.shards import open_rows
from close.errors import MismatchError, MissingError, RecipeError
from close.evaluation.bootstrap import Scores, compare_summed
from close.evaluation.match import match
from close.evaluation.metrics import METRICS
from close.evaluation.read import RowReferences, read_predictions, read_references
from close.evaluation.scores import score
from close.io.files import read_json
from close.tasks import get_task

__all__ = ["compare", "compare_scores"]


def compare_scores(a: Scores, b: Scores, *, samples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Paired tests of every measure that both have: see `close.evaluation.bootstrap.compare_summed`.

    Raises:
        MismatchError: the two are not about the same examples in the same order.
    """
    if a.ids != b.ids:
        only = sorted(set(a.ids) ^ set(b.ids))
        raise MismatchError(
            f"the two runs are not on identical examples: {len(a.ids)} and {len(b.ids)}"
            + (f", {len(only)} in one only (first: {only[0]!r})" if only else ", in another order")
        )
    return {
        name: compare_summed(a.metrics[name], b.metrics[name], samples=samples, seed=seed)
        for name in a.metrics
        if name in b.metrics
    }


def compare(
    a: str | Path,
    b: str | Path,
    *,
    references: str | Path | None = None,
    task: str | None = None,
    name: str | None = None,
    tokenizer: str = "auto",
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two evaluated runs, or two files of predictions.

    Args:
        a, b: folders of runs with one evaluation in common, folders of evaluations, or prediction files.
        references: needed for prediction files; for runs, where the data file is now, if it has moved.
        task: needed for prediction files: caption, vqa or entailment.
        name: which of the evaluations that both runs have.
    Returns:
        `a`, `b`, `task`, `n`, `data`, and `measures`: name to `a`, `b`, `difference` (b − a), `ci`, `p`.
    Raises:
        MissingError: no evaluation, or no data file. MismatchError: other data, other examples, another task.
        RecipeError: more has to be said.
    """
    if Path(a).is_dir() and Path(b).is_dir():
        places = _evaluations(Path(a), Path(b), name)
        task, truth, data = _same_data(*places, references)
        files = [place / "predictions.jsonl" for place in places]
    elif references is None or task is None:
        raise RecipeError("to compare files of predictions, say the references and the task")
    else:
        files, truth, data = [Path(a), Path(b)], read_references(references, task), str(references)
    metrics = METRICS.defaults(task, java=False)
    both = [match(task, read_predictions(file, task), truth) for file in files]
    wanted = both[0].references
    if both[0].predictions.keys() == both[1].predictions.keys() and len(both[0].predictions) < len(wanted):
        wanted = {key: value for key, value in wanted.items() if key in both[0].predictions}  # evaluated with a limit
    scores = [score(task, one.predictions, wanted, tokenizer=tokenizer, metrics=metrics, samples=0) for one in both]
    return {
        "a": str(a),
        "b": str(b),
        "task": task,
        "data": data,
        "n": len(scores[0].ids),
        "measures": compare_scores(*scores, samples=samples, seed=seed),
    }


def _evaluations(a: Path, b: Path, name: str | None) -> tuple[Path, Path]:
    """The folders of the evaluation that is compared."""
    if (a / "scores.json").is_file() and (b / "scores.json").is_file():
        return a, b
    have = [{p.parent.name for p in (run / "evaluations").glob("*/scores.json")} for run in (a, b)]
    common = sorted(have[0] & have[1])
    if not common:
        raise MissingError(f"{a} and {b} have no evaluation in common; `close evaluate` makes one")
    if name is None and len(common) > 1:
        raise RecipeError(f"{a} and {b} have several evaluations in common, choose one: {', '.join(common)}")
    name = name or common[0]
    if name not in common:
        raise MissingError(f"{a} and {b} have no evaluation {name!r} in common, but {', '.join(common)}")
    return a / "evaluations" / name, b / "evaluations" / name


def _same_data(a: Path, b: Path, references: str | Path | None) -> tuple[str, dict[str, Any], str]:
    """Kind of task, references and data file of two evaluations, which must be of one task on one data file."""
    first, second = read_json(a / "scores.json"), read_json(b / "scores.json")
    for key, what in (("task", "task"), ("data_sha256", "data")):
        if first[key] != second[key]:
            raise MismatchError(f"{a} and {b} are of different {what}: {first[key]!r} and {second[key]!r}")
    data = Path(references or first["data"])
    if not data.exists():
        raise MissingError(f"{data}: the data file of the evaluations is not there; say where it is (references)")
    rows = open_rows(data)
    if rows.sha256 != first["data_sha256"]:
        raise MismatchError(f"{data} has changed since {a} was evaluated")
    kind = get_task(first["task"]).metric
    return kind, RowReferences(rows, kind), str(data)
