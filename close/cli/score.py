"""close evaluate, close score, close compare, close report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from close.cli.looks import look_at
from close.cli.options import (
    BatchSize,
    Beams,
    Device,
    Json,
    LengthPenalty,
    Memory,
    MetricNames,
    MovedEncoder,
    Precision,
    Run,
    Samples,
    Seed,
    TaskKind,
    Tokenizer,
    check_outputs,
    print_json,
    verb,
)
from close.errors import written
from close.io.terminal import show

__all__ = ["register"]

Out = Annotated[Path | None, typer.Option("--out", help="Write the result to this JSON file.")]
DecodeBy = Annotated[
    Literal["tree", "score", "free"] | None,
    typer.Option(help="tree, score: an answer from a closed set (score gives probabilities); free: any text."),
]
References = Annotated[Path | None, typer.Option(help="With files of predictions; or where the data is now.")]
PredictedTask = Annotated[TaskKind | None, typer.Option(help="With files of predictions: what they are.")]
MissingImages = Annotated[
    Literal["zero", "skip", "error"] | None,
    typer.Option(
        help="Images that can't be read: zero scores them as nothing said, skip leaves them out. Without it: error."
    ),
]
MissingPredictions = Annotated[
    Literal["zero", "skip", "error"] | None,
    typer.Option(
        help="References without a prediction: zero scores them as nothing said, skip leaves them out (and predictions "
        "without a reference), error refuses. Without it: as officially."
    ),
]
GivenVectors = Annotated[
    Path | None, typer.Option(help="A table of the rows' vectors by id, in place of pictures, or texts, and encoder.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for function in (evaluate, score, compare, report):
        app.command()(verb(function))


def _written(result: Any, out: Path | None, as_json: bool) -> bool:
    """Write or print a result as JSON; whether it was printed, so that nothing else is to be."""
    from close.io.files import write_json

    if out is not None:
        write_json(out, result)
    if as_json:
        print_json(result)
    return as_json


def evaluate(
    run: Run,
    data: Annotated[Path, typer.Argument(help="Rows to score on.")],
    modality: Annotated[
        Literal["image", "text"], typer.Option(help="text: feed the sources' own embeddings.")
    ] = "image",
    task: Annotated[str | None, typer.Option(help="Without it, the run's.")] = None,
    num_beams: Beams = None,
    length_penalty: LengthPenalty = None,
    batch_size: BatchSize = 64,
    tokenizer: Tokenizer = "auto",
    metrics: MetricNames = None,
    decode: DecodeBy = None,
    normalise: Annotated[
        bool, typer.Option("--length-normalise", help="With --decode score: by the answers' lengths.")
    ] = False,
    answers: Annotated[
        Path | None, typer.Option(help="The closed set: .txt, an answer a line, or rows whose targets are taken.")
    ] = None,
    top_answers: Annotated[
        int | None, typer.Option(min=1, help="Only the commonest; without --answers, of the run's training targets.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first examples; said in the result.")] = None,
    missing: MissingImages = None,
    vectors: GivenVectors = None,
    device: Device = None,
    precision: Precision = "auto",
    encoder: MovedEncoder = None,
    memory: Memory = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Score a run on a data file; predictions and scores are saved with the run. What each score is says `close list metrics`."""
    check_outputs([out], [data, answers, memory, vectors])
    look_at(rows=data, runs=run, vectors=vectors)
    from close.runs.evaluate import evaluate as score

    searched = {"num_beams": num_beams, "length_penalty": length_penalty, "metrics": tuple(metrics or ()) or None}
    settings: dict[str, Any] = {key: value for key, value in searched.items() if value is not None}
    settings |= {"device": device, "precision": precision, "encoder": encoder, "memory": memory, "limit": limit}
    settings |= {"modality": modality, "task": task, "tokenizer": tokenizer, "vectors": vectors}
    result = score(
        run,
        data,
        batch_size=batch_size,
        decode=decode,
        normalise=normalise,
        answers=answers,
        top_answers=top_answers,
        missing=missing or "error",
        **settings,
    )
    if _written(result, out, as_json):
        return
    for name, value in result["scores"].items():
        if isinstance(value, (int, float)):
            show(_line(name, value, result["scores"], 22))
    show(f"saved in {result['folder']}")
    _notes(result["scores"])


def score(
    predictions: Annotated[Path, typer.Argument(help="Results in the task's official format, or predictions.jsonl.")],
    references: Annotated[Path, typer.Argument(help="Annotations in the task's official format, or rows.")],
    task: Annotated[TaskKind, typer.Option(help="What kind of text they are.")],
    missing: MissingPredictions = None,
    tokenizer: Tokenizer = "auto",
    metrics: MetricNames = None,
    samples: Samples = 1000,
    seed: Seed = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Score a file of predictions the official way, with 95 % intervals."""
    from close.evaluation.scores import score_files

    check_outputs([out], [predictions, references])
    settings: dict[str, Any] = {"metrics": metrics} if metrics else {}
    settings |= {"tokenizer": tokenizer, "samples": samples, "seed": seed, "missing": missing}
    result = score_files(predictions, references, task, **settings)
    if _written(result, out, as_json):
        return
    for line in _lines(result):
        show(line)
    _notes(result)


def _notes(scores: dict[str, Any]) -> None:
    """What to know of the scores, on stderr."""
    notes = dict(scores.get("notes", {}))
    if scores.get("missing") and "predictions" not in notes:
        notes["predictions"] = f"{scores['missing']:,} references have none and are left out"
    if (empty := (scores.get("diversity") or {}).get("empty", 0)) > (scores.get("missing") or 0):
        notes["texts"] = f"{empty:,} of {scores['n']:,} are empty"
    for name, reason in notes.items():
        show(f"note: {name}: {written(reason)}", err=True)


def _lines(result: dict[str, Any]) -> list[str]:
    """Names and numbers, one a line; tables of parts indented below their name."""
    lines = []
    for name, value in result.items():
        if isinstance(value, (int, float, str)):
            lines.append(_line(name, value, result, 14))
        elif isinstance(value, dict) and name not in ("ci", "notes"):
            lines.append(name)
            lines += [f"  {key:<22}{_short(part)}" for key, part in value.items()]
    return lines


def _line(name: str, value: float | str, scores: dict[str, Any], width: int) -> str:
    """A score, and its interval where it has one; a count or a word as it is."""
    if name not in scores.get("ci", {}) and not isinstance(value, float):
        return f"{name:<{width}}{value:>8}"
    form = _form(name)
    low, high = scores.get("ci", {}).get(name, (None, None))
    return f"{name:<{width}}{value:8{form}}" + ("" if low is None else f"   [{low:{form}}, {high:{form}}]")


def _form(name: str) -> str:
    """How a score is written: with one digit more than on pages."""
    from close.evaluation.metrics import METRICS

    return f".{1 + METRICS.digits(name)}f"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:8.2f}"
    if isinstance(value, dict):
        numbers = {key: part for key, part in value.items() if isinstance(part, (int, float))}
        return "  ".join(f"{key} {_short(part).strip()}" for key, part in numbers.items())
    return f"{'-' if value is None else value:>8}"


def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of a run or an evaluation, or a file of predictions.")],
    run_b: Annotated[Path, typer.Argument(help="The other one.")],
    more_a: Annotated[
        list[Path] | None,
        typer.Option("--a", help="Another seed of the first side, again for each; they count together."),
    ] = None,
    more_b: Annotated[list[Path] | None, typer.Option("--b", help="Another seed of the second side.")] = None,
    name: Annotated[str | None, typer.Option(help="Which evaluation, if both runs have several in common.")] = None,
    references: References = None,
    task: PredictedTask = None,
    tokenizer: Tokenizer = "auto",
    samples: Annotated[int, typer.Option(min=100, help="Bootstrap and exchange samples.")] = 1000,
    examples: Annotated[int, typer.Option(min=0, help="Examples shown of those that differ most, for each side.")] = 10,
    seed: Seed = 0,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the examples that differ as one page.")
    ] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Compare two runs, or several seeds of two, on identical examples: difference B − A, its 95 % interval, a paired test."""
    from close.evaluation.compare import compare as run
    from close.evaluation.page import comparison_page
    from close.io.files import write_text

    sides: list[list[Path]] = [[run_a, *(more_a or [])], [run_b, *(more_b or [])]]
    check_outputs([html, out], [*sides[0], *sides[1], references])
    settings: dict[str, Any] = {"tokenizer": tokenizer, "samples": samples, "examples": examples, "seed": seed}
    result = run(*sides, name=name, references=references, task=task, **settings)
    if html is not None:
        write_text(html, comparison_page(result))
    if not _written(result, out, as_json):
        _show_comparison(result)


def _show_comparison(result: dict[str, Any]) -> None:
    wide = max([14, *(len(measure) + 1 for measure in result["measures"])])
    show(f"{'':<{wide}}{'A':>8}{'B':>8}{'B − A':>8}   {'95 % interval':<18}{'p':>7}")
    for measure, row in result["measures"].items():
        form = _form(measure)
        interval, p = f"[{row['ci'][0]:+{form}}, {row['ci'][1]:+{form}}]" if row["ci"] else "", row["p"]
        scores = f"{row['a']:8{form}}{row['b']:8{form}}{row['difference']:+8{form}}"
        show(f"{measure:<{wide}}{scores}   {interval:<18}{'' if p is None else f'{p:7.3f}'}")
    runs = [len(result[side]) for side in "ab"]
    pooled = "" if runs == [1, 1] else f", {runs[0]} runs of A and {runs[1]} of B counted together"
    show(f"{result['n']} examples of {written(result['data'])}{pooled}{_left_out(result)}")
    show(result["over"])
    if pooled:
        _show_runs(result["measures"], wide)
    if "warning" in result:
        show(f"warning: {result['warning']}")
    _not_compared(result)
    found = result.get("examples")
    if found:
        better = found["better"]
        show(
            f"{found['measure']} of the single example: B better on {better['b']}, A on {better['a']}, alike on {better['same']}"
        )
        for one in [*found["b_better"][:3], *found["a_better"][:3]]:
            show(f"  {written(one['id'])}")
            for side in "ab":
                show(f"    {side.upper()} {one[f'score_{side}']:8.2f}  {written(' / '.join(one[side]))}")


def _show_runs(measures: dict[str, Any], first: int) -> None:
    """Each run's scores, a side a column, and the interval over runs."""
    table = [("each run", "A", "B", "B − A over seeds, 95 % (Welch's t over the runs, on these examples)")]
    for measure, row in measures.items():
        form, over = _form(measure), row["over_seeds"]
        a_side, b_side = (", ".join(f"{value:{form}}" for value in row[f"runs_{side}"]) for side in "ab")
        ends = (
            " [{:+{form}}, {:+{form}}]".format(*over["ci"], form=form)
            if over["ci"]
            else "  too few runs, or none differ"
        )
        table.append((measure, a_side, b_side, f"{over['difference']:+{form}}{ends}"))
    wide = [max(len(row[column]) for row in table) for column in (1, 2)]
    for name, a, b, over in table:
        show(f"{name:<{first}}  {a:<{wide[0]}}  {b:<{wide[1]}}  {over}")


def _not_compared(result: dict[str, Any]) -> None:
    """Which saved scores are left out, those of one reason together, on stderr."""
    reasons: dict[str, list[str]] = {}
    for name, why in result.get("not_compared", {}).items():
        reasons.setdefault(why, []).append(written(name))
    for why, names in reasons.items():
        show(f"note: not compared: {', '.join(names)}: {why}", err=True)


def _left_out(result: dict[str, Any]) -> str:
    return f", without {result['left_out']:,} whose pictures could not be read" if result.get("left_out") else ""


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs or evaluations, or files of predictions.")],
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("runs.html"),
    name: Annotated[str | None, typer.Option(help="Which evaluation, if all runs have several in common.")] = None,
    references: References = None,
    task: PredictedTask = None,
    tokenizer: Tokenizer = "auto",
    samples: Samples = 1000,
    examples: Annotated[int, typer.Option(min=0, help="Examples shown at most, chosen by the seed.")] = 60,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Lay evaluated runs side by side as one page: scores with intervals, and what each says of the same pictures."""
    from close.evaluation.page import index_page
    from close.evaluation.side_by_side import side_by_side
    from close.io.files import write_text

    check_outputs([out], [*runs, references])
    names = _short_names(runs)
    settings: dict[str, Any] = {"tokenizer": tokenizer, "samples": samples, "examples": examples, "seed": seed}
    given = dict(zip(names, runs, strict=True))
    result = side_by_side(given, name=name, references=references, task=task, **settings)
    write_text(out, index_page(result))
    if as_json:
        print_json(result)
    else:
        show(f"{len(runs)} runs on {result['n']:,} examples{_left_out(result)}: {written(out)}")
        _not_compared(result)


def _short_names(paths: list[Path]) -> list[str]:
    """The last parts of paths, as few as tell them apart."""
    given = [path.absolute().parts for path in paths]
    depth = next((n for n in range(1, 99) if len({parts[-n:] for parts in given}) == len(given)), 99)
    found = ["/".join(parts[-depth:]) for parts in given]
    return [name if found.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(found, 1)]
