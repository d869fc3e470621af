"""close score, close compare, close convert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["register"]

Tokenizer = Annotated[str, typer.Option(help="PTB tokenizer of caption scores: auto (java if there), java, python.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the result to this file.")]
Samples = Annotated[int, typer.Option(min=0, help="Bootstrap resamples; 0 for no intervals.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    for verb in (score, compare, convert):
        app.command()(verb)


def score(
    predictions: Annotated[Path, typer.Argument(help="Results in the task's official format, or predictions.jsonl.")],
    references: Annotated[Path, typer.Argument(help="Annotations in the task's official format, or rows.")],
    task: Annotated[str, typer.Option(help="caption, vqa or entailment.")],
    as_json: Json = None,
    tokenizer: Tokenizer = "auto",
    metrics: Annotated[
        str, typer.Option(help="Of captions; meteor and spice are slow.")
    ] = "bleu,rouge_l,cider,meteor,spice",
    samples: Samples = 1000,
    seed: int = 0,
) -> None:
    """Score a file of predictions the official way, with 95 % intervals."""
    from close.evaluation.scores import score_files
    from close.io.files import write_json

    chosen = [name.strip() for name in metrics.split(",") if name.strip()]
    result = score_files(predictions, references, task, tokenizer=tokenizer, metrics=chosen, samples=samples, seed=seed)
    if as_json is not None:
        write_json(as_json, result)
    for line in _lines(result):
        typer.echo(line)
    if result.get("missing"):
        typer.echo(f"note: {result['missing']} references have no prediction and are left out", err=True)
    for name, reason in result.get("notes", {}).items():
        typer.echo(f"note: no {name}: {reason}", err=True)


def _lines(result: dict[str, Any]) -> list[str]:
    """Names and numbers, one a line; tables of parts indented below their name."""
    lines = []
    for name, value in result.items():
        low, high = result.get("ci", {}).get(name, (None, None))
        interval = "" if low is None else f"   [{low:.2f}, {high:.2f}]"
        if isinstance(value, float):
            lines.append(f"{name:<14}{value:8.2f}{interval}")
        elif isinstance(value, (int, str)):
            lines.append(f"{name:<14}{value:>8}")
        elif isinstance(value, dict) and name not in ("ci", "notes"):
            lines.append(name)
            lines += [f"  {key:<22}{_short(part)}" for key, part in value.items()]
    return lines


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:8.2f}"
    if isinstance(value, dict):
        return "  ".join(f"{key} {_short(part).strip()}" for key, part in value.items() if _is_number(part))
    return f"{'-' if value is None else value:>8}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def compare(
    run_a: Annotated[Path, typer.Argument(help="Folder of a run or an evaluation, or a file of predictions.")],
    run_b: Annotated[Path, typer.Argument(help="The other one.")],
    name: Annotated[str | None, typer.Option(help="Which evaluation, if both runs have several in common.")] = None,
    references: Annotated[
        Path | None, typer.Option(help="With files of predictions; or where the data is now.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="With files of predictions: caption, vqa or entailment.")] = None,
    as_json: Json = None,
    tokenizer: Tokenizer = "auto",
    samples: Annotated[int, typer.Option(min=100, help="Bootstrap and exchange samples.")] = 1000,
    seed: int = 0,
) -> None:
    """Compare two runs on identical examples: difference B − A, its 95 % interval, and a paired test."""
    from close.evaluation.compare import compare as run
    from close.io.files import write_json

    result = run(
        run_a, run_b, name=name, references=references, task=task, tokenizer=tokenizer, samples=samples, seed=seed
    )
    if as_json is not None:
        write_json(as_json, result)
    typer.echo(f"{'':<14}{'A':>8}{'B':>8}{'B − A':>8}   {'95 % interval':<18}{'p':>7}")
    for measure, row in result["measures"].items():
        interval = f"[{row['ci'][0]:+.2f}, {row['ci'][1]:+.2f}]"
        typer.echo(
            f"{measure:<14}{row['a']:8.2f}{row['b']:8.2f}{row['difference']:+8.2f}   {interval:<18}{row['p']:7.3f}"
        )
    typer.echo(f"{result['n']} examples of {result['data']}")


def convert(
    format: Annotated[
        str, typer.Argument(help="coco, karpathy, snli, snli-ve, vqa, vqa-e, visualnews, nocaps, csv, …")
    ],
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or folder in that format.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="JSONL to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; for tar and Parquet, where to put them.")
    ] = None,
    per: Annotated[str | None, typer.Option(help="A row for each caption, or for each image.")] = None,
    split: Annotated[str, typer.Option(help="Splits to keep, e.g. train,restval.")] = "",
    annotations: Annotated[Path | None, typer.Option(help="VQA 2.0: the answers.")] = None,
    captions: Annotated[Path | None, typer.Option(help="VQA 2.0: COCO captions of the images, the sources.")] = None,
    encoding: Annotated[str, typer.Option(help="Of the text, e.g. latin-1.")] = "utf-8",
    skip_errors: Annotated[bool, typer.Option("--skip-errors", help="Count bad records instead of stopping.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON on stdout.")] = False,
) -> None:
    """Write a real format as the project's JSONL; says what was skipped and why."""
    from close.data.readers import ReadOptions
    from close.data.readers import convert as run
    from close.errors import RecipeError

    if per not in (None, "caption", "image"):
        raise RecipeError(f"--per is caption or image, not {per!r}")
    options = ReadOptions(
        images=images, per=per, split=tuple(s.strip() for s in split.split(",") if s.strip()),  # type: ignore[arg-type]
        annotations=annotations, captions=captions, encoding=encoding,
    )  # fmt: skip
    summary = run(format, source, out, options=options, skip_errors=skip_errors, overwrite=overwrite).to_dict()
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
        return
    reasons = "".join(f", {count} × {reason}" for reason, count in summary["skipped"].items())
    typer.echo(f"{out}: {summary['written']} rows of {summary['read']} records{reasons and '; skipped' + reasons[1:]}")
    for message in summary["messages"]:
        typer.echo(f"skipped: {message}", err=True)
