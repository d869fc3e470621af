"""What reaches a terminal: names and captions are others' text, and must not move its cursor, colour it, or break a line."""

from __future__ import annotations

import codecs
import json
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import typer

from close.errors import written

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["console_for", "escape_the_rest", "show"]

WIDEST = 10_000


def console_for(table: Table) -> Console:
    """A console as wide as the terminal; where its width is not known, as in a pipe, a file or a log, as the table needs.

    COLUMNS says the width where it is set.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(soft_wrap=False)
    if os.environ.get("COLUMNS", "").isdigit() or (console.is_terminal and _columns()):
        return console
    needed = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    return Console(soft_wrap=False, width=max(needed, console.width))


def _columns() -> int:
    """Of the terminal that stdout is; 0 where it is none, or does not say."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 0


def escape_the_rest() -> None:
    """Print what the encoding of stdout or stderr has no letters for as JSON escapes it (a pipe on Windows is no UTF-8)."""
    codecs.register_error("close.escaped", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="close.escaped")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def show(text: Any = "", *, err: bool = False) -> None:
    """Print a line, or several, of a verb's own: every name or caption in it is `written`."""
    typer.echo(written(text, keep="\t\n"), err=err)
