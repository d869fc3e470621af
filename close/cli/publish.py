"""close publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from close.cli.looks import look_at
from close.cli.options import Json, print_json, verb
from close.errors import written
from close.io.terminal import show

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(verb(publish))


def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    name: Annotated[str, typer.Argument(help="ORG/NAME on the Hugging Face hub.")],
    private: Annotated[bool, typer.Option("--private", help="Where it is made: seen by its owners alone.")] = False,
    revision: Annotated[str | None, typer.Option(help="A branch, made if need be; without it, main.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Of its texts: en, de …; again for each.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="By the hub's id: apache-2.0, cc-by-4.0 …")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="The hub's id of training data, again for each.")] = None,
    gap: Annotated[
        Path | None, typer.Option(help="What `close gap … --out` wrote of its encoder, for the card.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="Pictures of its evaluations at most that the card shows, and so makes public.")
    ] = 0,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go and the card; send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Publish a run on the Hugging Face hub: what using it needs, and a card with its scores.

    Checkpoints, logs, tables and predictions stay here, and nothing says where on this machine anything lay. Log in before:
    `hf auth login`. Others then say `close caption ORG/NAME photo.jpg`.
    """
    look_at(runs=run)
    from close.runs.card import Shown
    from close.runs.publish import check_name, pack
    from close.runs.publish import publish as send

    shown = Shown(check_name(name), language or (), licence, dataset or ())
    parcel = pack(run, shown, gap=gap, examples=examples)
    for note in parcel.notes:
        show(f"note: {written(note)}", err=True)
    commit = None if dry_run else send(run, name, parcel, private=private, revision=revision, message=message)
    if as_json:
        print_json({"name": name, "commit": commit, "files": parcel.sizes, "notes": parcel.notes, "card": parcel.card})
        return
    for file, size in parcel.sizes.items():
        show(f"{size:>14,}  {written(file)}")
    show(f"{sum(parcel.sizes.values()):>14,}  bytes in all")
    if dry_run:
        show(f"\n{parcel.card}")
    else:
        show(f"published: {name}@{commit}")
