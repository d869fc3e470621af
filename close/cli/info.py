"""close info, close mini export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from close.cli.options import Json, Seed, print_json, verb
from close.errors import written
from close.io.terminal import show

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(verb(info))
    group = typer.Typer(no_args_is_help=True, help="The mini world that the package ships.")
    group.command("export")(verb(mini_export))
    app.add_typer(group, name="mini")


def info(
    thing: Annotated[
        str | None,
        typer.Argument(help="A run, an embedding table, an encoder or an adapter; without it, this installation."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of a table, and compare it with its checksums.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a thing is, and whether it is whole; or what is installed here, and which fast paths are on."""
    from close.runs.inspection import describe, describe_installation

    about = describe_installation() if thing is None else describe(thing, verify=verify)
    if verify and about["kind"] != "embedding table":
        raise typer.BadParameter(f"it goes with an embedding table; this is: {about['kind']}", param_hint="--verify")
    if as_json:
        print_json(about)
        return
    width = max(map(len, about))
    for key, value in about.items():
        show(f"{key:<{width}}  {json.dumps(value) if isinstance(value, (dict, list)) else written(value)}")


def mini_export(
    out: Annotated[Path, typer.Option("--out", help="New folder.")],
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Scenes of different splits differ.")
    ] = "train",
    count: Annotated[int, typer.Option(min=1, help="Number of scenes.")] = 1000,
    seed: Seed = 0,
    style: Annotated[
        Literal["plain", "report"], typer.Option(help="How captions are written, and what they tell: two domains.")
    ] = "plain",
    world: Annotated[Literal["drawn", "sound"], typer.Option(help="Pictures, or sounds: *.wav.")] = "drawn",
    as_json: Json = False,
) -> None:
    """Write scenes as files: images/*.png, captions.jsonl, eval.jsonl, vqa.jsonl, entailment.jsonl, pairs.jsonl."""
    from close.mini import export

    counts = export(out, split, count, seed, style=style, world=world)
    if as_json:
        print_json({"folder": str(out), **counts})
        return
    show(f"{out}: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
