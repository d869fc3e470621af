"""close convert."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from close.cli.options import Json, Verb, print_json, verb
from close.errors import written
from close.io.terminal import show
from close.plugins import load_plugins

if TYPE_CHECKING:
    from close.data.readers import ReadSummary

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command(cls=_WithFormats)(verb(convert))


class _WithFormats(Verb):
    """A command whose help ends with the formats, plug-ins' own included; only help waits for the readers to be imported."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what was given: help is shown before any option is looked at."""
        named = [name for flag, name in pairwise(args) if flag == "--plugin"]
        self.plugins = named + [arg.partition("=")[2] for arg in args if arg.startswith("--plugin=")]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from close.data.readers import formats

        load_plugins(self.plugins)
        known = [f"{name} – {about}" for name, about in formats().items()]
        self.epilog = "\n\n".join(["Formats, and the options that say something to each:", *known])
        super().format_help(ctx, formatter)


def convert(
    format: Annotated[str, typer.Argument(help="One of the formats below.")],
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or folder in that format.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="JSONL to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; for tar and Parquet, where to put them.")
    ] = None,
    per: Annotated[Literal["caption", "image"] | None, typer.Option(help="What a row is made for.")] = None,
    split: Annotated[str, typer.Option(help="Splits to keep, e.g. train,restval.")] = "",
    annotations: Annotated[Path | None, typer.Option(help="VQA 2.0: the answers.")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="VQA 2.0, NLVR2: captions of the images, which become the sources.")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Of tables and shards, by name or place from 0: caption=2,image=0 or caption=title.")
    ] = "",
    frames: Annotated[
        int | None, typer.Option(min=1, help="Of a film, at even distances: the row's images. Else 8.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="MSVD: of the captions; English without it.")] = None,
    encoding: Annotated[str, typer.Option(help="Of the text, e.g. latin-1.")] = "utf-8",
    skip_errors: Annotated[bool, typer.Option("--skip-errors", help="Count bad records instead of stopping.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    as_json: Json = False,
) -> None:
    """Write a real format as the project's JSONL; says what was skipped and why."""
    from close.data.columns import parse_columns
    from close.data.readers import ReadOptions
    from close.data.readers import convert as run

    options = ReadOptions(
        images=images, per=per, split=tuple(s.strip() for s in split.split(",") if s.strip()),
        annotations=annotations, captions=captions, columns=parse_columns(columns) or None,
        frames=frames, language=language, encoding=encoding,
    )  # fmt: skip

    def tell(found: ReadSummary) -> None:
        summary = found.to_dict()
        if as_json:
            print_json(summary)
            return
        skipped = {"wrong" if reason == "error" else reason: count for reason, count in summary["skipped"].items()}
        reasons = "".join(f", {count} × {reason}" for reason, count in skipped.items())
        show(f"{out}: {summary['written']} rows of {summary['read']} records{reasons and '; skipped' + reasons[1:]}")
        for note in summary["notes"]:
            show(f"note: {written(note)}", err=True)
        for message in summary["messages"]:
            show(f"skipped: {written(message)}", err=True)
        if more := summary["skipped"].get("error", 0) - len(summary["messages"]):
            show(f"skipped: … and {more} more", err=True)

    run(format, source, out, options=options, skip_errors=skip_errors, overwrite=overwrite, tell=tell)
