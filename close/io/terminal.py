"""What reaches a terminal: names and captions are others' text, and must not move its cursor, colour it, or break a line."""

from __future__ import annotations

from typing import Any

import typer

from close.errors import written

__all__ = ["show"]


def show(text: Any = "", *, err: bool = False) -> None:
    """Print a line, or several, of a verb's own: every name or caption in it is `written`."""
    typer.echo(written(text, keep="\t\n"), err=err)
