"""close export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from close.cli.looks import look_at
from close.cli.options import Json, LanguageModelPlace, MovedEncoder, Run, print_json, verb
from close.errors import PartialError, firsts, written
from close.io.terminal import show

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb of this file."""
    app.command()(verb(export))


def export(
    run: Run,
    out: Annotated[Path, typer.Argument(help="New folder.")],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="As ONNX graphs: the one form there is, also without it.", show_default=False)
    ] = True,
    pictures: Annotated[
        list[Path] | None, typer.Option(help="Images or folders on which both are compared, again for each.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Without it, the run's first.")] = None,
    encoder: MovedEncoder = None,
    language_model: LanguageModelPlace = None,
    as_json: Json = False,
) -> None:
    """Write a run that needs no torch: `python OUT/run.py photo.jpg`, with numpy, onnxruntime, tokenizers and Pillow alone.

    It searches greedily, in float32; what it says is compared with the run, and size and speed with torch's.
    """
    look_at(runs=run)
    from close.io.media import picture_suffixes
    from close.runs.export import export_onnx
    from close.runs.items import expand

    given = expand(pictures, picture_suffixes())[0] if pictures else ()
    found = export_onnx(run, out, pictures=given, task=task, encoder=encoder, language_model=language_model)
    if as_json:
        print_json({"folder": str(out), **found})
    else:
        _say(out, found)
    if unread := found["unread"]:
        raise PartialError(f"{len(unread)} pictures could not be read and are not compared: {firsts(unread)}")


def _say(out: Path, found: dict[str, Any]) -> None:
    show(f"{written(out)}: greedy text as the run's on {found['same']} of {found['pictures']} pictures")
    for what, digits, unit in (("bytes", ",", "bytes"), ("seconds", ".3f", "seconds a picture")):
        show(f"{found[what]['onnx']:{digits}} {unit}, torch in fp32 {found[what]['torch']:{digits}}")
    for one in found["differ"]:
        show(f"  torch {written(one['torch'])}\n  onnx  {written(one['onnx'])}")
