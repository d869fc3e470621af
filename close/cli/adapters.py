"""`close adapters`, `close adapter fit`."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer

from close.cli.options import Json, Pairs, print_json, verb
from close.io.terminal import show

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(verb(adapters))
    group = typer.Typer(help="Fit an adapter once, to be named in recipes.", no_args_is_help=True)
    group.command("fit")(verb(fit))
    app.add_typer(group, name="adapter")


def adapters(as_json: Json = False) -> None:
    """List the ways across the gap: formula, needs, when to use them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from close.adapters.catalogue import AdapterInfo, list_adapters

    listed = [asdict(info) for info in list_adapters()]
    if as_json:
        print_json(listed)
        return
    table = Table(*(field.name for field in fields(AdapterInfo)), show_lines=True)
    for info in listed:
        table.add_row(*map(Text, info.values()))
    Console().print(table)


def fit(
    spec: Annotated[
        str, typer.Argument(help="As in a recipe: mean_shift, '{linear: {method: procrustes}}', '[…]', or a YAML file.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the fitted adapter; a recipe names it as {load: FOLDER}.")],
    text: Annotated[
        Path | None, typer.Option(help="Text embeddings: a table, .npy, or a folder of .npy parts.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Image embeddings; row by row with --text where pairs are needed.")
    ] = None,
    pairs: Pairs = None,
    groups: Annotated[
        Path | None, typer.Option(help="The data file that --text was made of, where the adapter needs its groups.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit an adapter on embeddings and save it."""
    from close.adapters.resolve import fit_adapter, parse_spec
    from close.errors import RecipeError
    from close.gap.pairing import read_index

    if pairs and not (text and image):
        raise RecipeError("--pairs says which rows of two tables belong together: give --text and --image")
    index = read_index(pairs, text, image) if pairs and text and image else None
    adapter = fit_adapter(parse_spec(spec), out, text=text, image=image, pairs=index, groups=groups)
    if as_json:
        print_json({"folder": str(out), "adapter": adapter.spec(), "dim": adapter.dim})
        return
    show(f"{out}: {json.dumps(adapter.spec(), ensure_ascii=False)}, {adapter.dim} dimensions")
