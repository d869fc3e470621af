"""close calibrate, close match-length."""

from __future__ import annotations

from functools import partial
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
    MovedEncoder,
    Precision,
    Run,
    Tokenizer,
    print_json,
    verb,
)
from close.errors import written
from close.io.terminal import show

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(verb(calibrate))
    app.command("match-length")(verb(match_length))


def calibrate(
    run: Run,
    data: Annotated[Path, typer.Argument(help="Validation rows with images, seen neither in training nor in a test.")],
    by: Annotated[
        Literal["likelihood", "cosine", "both"] | None,
        typer.Option(help="What confidence is made of. Without it: both for captions, likelihood for answers."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="The score that says how right a row is; without it, the task's.")
    ] = None,
    at_least: Annotated[float | None, typer.Option(help="A row is right from this score on.")] = None,
    task: Annotated[str | None, typer.Option(help="Without it, the run's.")] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, help="As in close caption.")] = None,
    rerank: Annotated[Literal["clip"] | None, typer.Option(help="As in close caption.")] = None,
    num_beams: Beams = None,
    length_penalty: LengthPenalty = None,
    decode: Annotated[Literal["tree", "score", "free"] | None, typer.Option(help="As in close evaluate.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the split into two halves.")] = 0,
    batch_size: BatchSize = 64,
    tokenizer: Tokenizer = "auto",
    device: Device = None,
    precision: Precision = "auto",
    encoder: MovedEncoder = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Measure how often a run is right where it is as sure as this, and save that with it: outputs then carry a confidence.

    One half of the rows teaches the map, what is printed and drawn is of the other half. Confidence is known for the settings
    that it was measured with.
    """
    look_at(rows=data, runs=run)
    from close.runs.calibrate import calibrate as measure
    from close.runs.confidence import confidence_file

    chosen: dict[str, Any] = {"n": n, "rerank": rerank, "num_beams": num_beams, "length_penalty": length_penalty}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    found = measure(
        run, data, by=by, metric=metric, at_least=at_least, task=task, decode=decode, seed=seed, tokenizer=tokenizer,
        batch_size=batch_size, device=device, precision=precision, encoder=encoder, memory=memory, **chosen,
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    rows, right = found["rows"], found["right"]
    threshold = "" if right["at_least"] is None else f" of at least {right['at_least']:g}"
    show(
        f"right: {right['score']}{threshold}; learnt on {rows['learnt_on']} rows, measured on {rows['measured_on']} others"
    )
    chance = found["ece"]["by_chance"]
    show(
        f"calibration error  {found['ece']['value']:.3f} (confidence as it should be: {chance['mean']:.3f}, "
        f"up to {chance['most']:.3f} on so many rows)"
    )
    columns = ["", *(f"{share} kept" for share in found["confidence"]["at_coverage"]), "area"]
    show("".join(f"{column:<24}" for column in columns).rstrip())
    for name, ranked in {**found["signals"], "confidence": found["confidence"]}.items():
        cells = [_number(at, "accuracy") for at in ranked["at_coverage"].values()]
        show("".join(f"{cell:<24}" for cell in [name, *cells, _number(ranked["aurc"])]).rstrip())
    show(f"saved in {written(confidence_file(run, found['task']))}, with two pictures")


def match_length(
    run: Run,
    photos: Annotated[
        Path,
        typer.Argument(help="Photos like those that it will be used on, or rows with images; captions are not read."),
    ],
    like: Annotated[
        Path | None,
        typer.Option(help="Rows whose targets' length to match; without it, those that the run learnt from."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Of several: whose texts are measured.")] = None,
    sample: Annotated[int, typer.Option(min=10, help="Photos at most.")] = 100,
    batch_size: BatchSize = 32,
    device: Device = None,
    precision: Precision = "auto",
    encoder: MovedEncoder = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Find the length penalty with which texts of photos are as long as those that the run learnt from, and save it with the run.

    A run that tells too much or too little of pictures loses by it, whatever it has learnt; photos without captions mend that.
    Lengths are means of characters, in which no text counts as more than twice what 90 in 100 do not exceed.
    """
    look_at(runs=run, photos=photos, rows=like)
    from close.runs.length import match_length as match
    from close.runs.length import outcome

    found = match(
        run, photos, like=like, task=task, sample=sample, batch_size=batch_size, device=device, precision=precision,
        encoder=encoder, memory=memory, tell=partial(show, err=True),
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    show(outcome(found))
    if found["length_penalty"] == found["before"]:
        show(f"that is the penalty that {written(run)} has: nothing is changed")
    else:
        show(
            f"saved with {written(run)} (it was {found['before']:g}); evaluate and calibrate again where that was done before; "
            "--length-penalty takes another at use"
        )


def _number(found: dict[str, Any], key: str = "value") -> str:
    """A value and its interval."""
    low, high = found["ci"]
    return f"{found[key]:.3f} [{low:.3f}, {high:.3f}]"
