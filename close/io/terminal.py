"""What reaches a terminal: names and captions are others' text, and must not move its cursor, colour it, or break a line."""

from __future__ import annotations

from typing import Any

import typer

from close.errors import COMMANDS

__all__ = ["escaped", "field", "show"]


def escaped(text: str) -> str:
    r"""Text with what a terminal would obey, but for tabs and line feeds, as JSON writes it: \u001b; there it means the same."""
    return COMMANDS.sub(lambda found: found[0] if found[0] in "\t\n" else f"\\u{ord(found[0]):04x}", text)


def field(value: Any) -> str:
    """One field of a line of fields: `escaped`, and neither a tab nor a line feed."""
    return escaped(str(value)).replace("\t", "\\t").replace("\n", "\\n")


def show(text: Any = "", *, err: bool = False) -> None:
    """Print a line, or several, of a verb's own: every name or caption in it is a `field`."""
    typer.echo(escaped(str(text)), err=err)
