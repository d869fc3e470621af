"""`close adapters`, `close adapter fit`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from close.cli.looks import look_at
from close.cli.options import Json, Pairs, TextTable, print_json, verb
from close.io.terminal import show

if TYPE_CHECKING:
    from close.adapters import AdapterInfo

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(verb(adapters))
    group = typer.Typer(help="Fit an adapter once, to be named in recipes.", no_args_is_help=True)
    group.command("fit")(verb(fit))
    app.add_typer(group, name="adapter")


def adapters(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all without it.")] = None, as_json: Json = False
) -> None:
    """List the ways across the gap: formula, needs, when to use them, and every option with its default."""
    from close.adapters import ADAPTERS, list_adapters

    for name in names or []:
        ADAPTERS[name]
    listed = [info for info in list_adapters() if not names or info.name in names]
    if as_json:
        print_json([asdict(info) for info in listed])
        return
    show("\n\n".join(_shown(info, min(get_terminal_size().columns, 100)) for info in listed))


def _shown(info: AdapterInfo, width: int) -> str:
    """An adapter in lines of at most `width` characters, which take no terminal's markup."""
    lines = [f"{info.name}: needs {info.needs}, changes {info.sides}", *wrap(info.summary, width - 2)]
    parts = {"formula": info.formula, "paper": info.paper, "when": info.when, "fit": info.fit}
    for option in info.options:
        default = "needed" if option.needed else "" if option.default is None else json.dumps(option.default)
        parts[option.name] = f"({default}) {option.meaning}" if default else option.meaning
    column = max(map(len, parts)) + 2
    for name, text in parts.items():
        found = wrap(text, width - 2 - column)
        lines += [f"{'' if number else name:<{column}}{line}" for number, line in enumerate(found)]
    return "\n  ".join(lines)


def fit(
    spec: Annotated[
        str, typer.Argument(help="As in a recipe: mean_shift, '{linear: {method: procrustes}}', '[…]', or a YAML file.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the fitted adapter; a recipe names it as {load: FOLDER}.")],
    text: TextTable = None,
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
    look_at(vectors=[text, image], rows=[pairs, groups])
    from close.adapters.resolve import fit_adapter, parse_spec
    from close.gap.pairing import check_pairs, read_index

    check_pairs(pairs, text, image)
    index = read_index(pairs, text, image) if pairs and text and image else None
    adapter = fit_adapter(parse_spec(spec), out, text=text, image=image, pairs=index, groups=groups)
    if as_json:
        print_json({"folder": str(out), "adapter": adapter.spec(), "dim": adapter.dim, "learnt": adapter.findings})
        return
    show(f"{out}: {json.dumps(adapter.spec(), ensure_ascii=False)}, {adapter.dim} dimensions")
