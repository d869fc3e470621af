"""`close gap`, `close recommend`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from close.cli.looks import look_at
from close.cli.options import Captions, Json, Pairs, Seed, TextTable, Unpaired, check_outputs, print_json, verb
from close.errors import RecipeError
from close.io.terminal import console_for, show

if TYPE_CHECKING:
    from close.gap.measured_tables import MeasuredTables
    from close.gap.measures import Measure

__all__ = ["register"]

Embedder = Annotated[str | None, typer.Option("--encoder", help="Of data files, as in a recipe; mini without it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(verb(gap))
    app.command()(verb(recommend))


def gap(
    text: TextTable = None,
    image: Annotated[
        Path | None, typer.Option(help="Image embeddings; row by row with --text unless told otherwise.")
    ] = None,
    pairs: Pairs = None,
    per_image: Annotated[
        int | None, typer.Option(min=1, help="Texts of each image, side by side in the order of the images.")
    ] = None,
    unpaired: Unpaired = False,
    compare: Annotated[
        list[str] | None, typer.Option(metavar="NAME=T,V", help="One more pair of tables beside these; repeatable.")
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help="Measure again behind an adapter, as in a recipe; repeatable."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as one page.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the measures as JSON.")] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every figure of the report as PDF and SVG.")
    ] = None,
    as_json: Json = False,
    sample: Annotated[int, typer.Option(min=100, help="Rows a side for what is quadratic in them.")] = 20_000,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the intervals; 0 for none.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Measure the gap between texts and images, and say what to do about it."""
    sources = list(_sources(text, image, compare or []))
    tables = [path for _, *paths in sources for path in paths]
    check_outputs([html, out], [pairs, *tables])
    look_at(vectors=tables, rows=pairs)
    from close.adapters.resolve import parse_spec
    from close.gap.measured_tables import measure_tables, to_json
    from close.io.jobs import exclusively

    with _telling() as tell, ExitStack() as locks:
        for file in filter(None, (html, out, plots)):
            locks.enter_context(exclusively(file, "is being written"))
        measured = measure_tables(
            sources,
            pairs=pairs,
            per_image=per_image,
            unpaired=unpaired,
            adapters={given: parse_spec(given) for given in adapter or []},
            progress=tell,
            sample=sample,
            bootstrap=bootstrap,
            seed=seed,
        )
        tell("drawing")
        written = list(_write(measured, html, out, plots, seed))
    show(to_json(measured)) if as_json else _show(measured)
    if written:
        show(f"written: {', '.join(map(str, written))}", err=True)


def recommend(
    text: Annotated[Path, typer.Option(help="Captions: a table's folder, .npy, or a data file (.jsonl, .txt, .csv).")],
    image: Annotated[
        Path | None, typer.Option(help="Images: the same; row by row with --text unless told otherwise.")
    ] = None,
    pairs: Pairs = None,
    unpaired: Unpaired = False,
    groups: Annotated[
        Path | None, typer.Option(help="The data file of --text: captions that share a group are of one image.")
    ] = None,
    captions: Annotated[Captions, typer.Option(help="As in a recipe.")] = "single",
    task: Annotated[str, typer.Option(help="What it is for.")] = "caption",
    encoder: Embedder = None,
    as_json: Json = False,
    sample: Annotated[int, typer.Option(min=100, help="Captions to rest on at most.")] = 20_000,
    seed: Seed = 0,
) -> None:
    """Say which adapter and how much noise to train with, before training: lines for a recipe, with the reasons."""
    look_at(data=[text, image], rows=[pairs, groups])
    from close.gap.advice.advise import advise

    with _telling() as tell:
        advice, lines = advise(
            text,
            image,
            pairs=pairs,
            unpaired=unpaired,
            groups=groups,
            encoder=encoder,
            captions=captions,
            task=task,
            sample=sample,
            seed=seed,
            progress=tell,
        )
    print_json(advice.to_dict()) if as_json else show(lines.rstrip())


def _sources(text: Path | None, image: Path | None, compare: list[str]) -> Iterator[tuple[str, Path, Path]]:
    """(name, text, image) of the tables to measure."""
    if (text is None) != (image is None):
        raise RecipeError("the gap is between two tables: give both --text and --image")
    if text and image:
        yield "as it is", text, image
    elif not compare:
        raise RecipeError("nothing to measure: give --text and --image, or --compare NAME=TEXT,IMAGE")
    for given in compare:
        name, _, tables = given.partition("=")
        paths = tables.split(",")
        if not name.strip() or len(paths) != 2 or not all(path.strip() for path in paths):
            raise RecipeError(f"--compare {given!r}: expected NAME=TEXT,IMAGE, e.g. B32=text.npy,image.npy")
        yield name.strip(), Path(paths[0].strip()), Path(paths[1].strip())


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, where somebody watches."""
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("reading") as status:
        yield lambda step: status.update(escape(step))


def _write(
    measured: Sequence[MeasuredTables], html: Path | None, out: Path | None, plots: Path | None, seed: int
) -> Iterator[Path]:
    """Write the report, the measures and the figures that are asked for, and say where."""
    from close.gap.measured_tables import to_json
    from close.io.files import write_text

    if out:
        write_text(out, to_json(measured) + "\n")
        yield out
    if html:
        from close.gap.report.page import render_html

        write_text(html, render_html(measured, seed=seed))
        yield html
    if plots:
        from close.gap.report.figures import save_figures

        save_figures(measured, plots, seed)
        yield plots


def _cell(measure: Measure, value: float | None) -> str:
    """A value, marked where it is not healthy."""
    if value is None:
        return "–"
    healthy = not measure.has_range or measure.is_healthy(value)
    return f"{value:.4g}" if healthy else f"[yellow]{value:.4g} ![/yellow]"


def _show(measured: Sequence[MeasuredTables]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from close.gap.measures import MEASURES
    from close.gap.report.words import verdict

    table = Table("", *(escape(tables.name) for tables in measured), "healthy", box=None, pad_edge=False)
    family = ""
    for measure in MEASURES:
        values = [tables.report[measure.name] for tables in measured]
        if all(value is None for value in values):
            continue
        if measure.family != family:
            family = measure.family
            table.add_row(f"[bold]{family}[/bold]")
        table.add_row(
            f"  {measure.title}",
            *(_cell(measure, value) for value in values),
            measure.healthy.split(";")[0],
        )
    console = console_for(table)
    console.print(table)
    console.print("[yellow]![/yellow] not in the healthy range")
    found = verdict(measured[0].report)
    console.print(f"\n[bold]{escape(found.headline)}.[/bold]")
    for line in (*found.findings, *found.steps):
        console.print(f"· {line}", markup=False)
    for name, note in measured[0].report.notes.items():
        if measured[0].report.values.get(name, 0) is not None:  # why there is no value stands in the files
            console.print(f"note, {name}: {note}", markup=False)
