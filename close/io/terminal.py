"""What reaches a terminal: names and captions are others' text, and must not move its cursor, colour it, or break a line."""

from __future__ import annotations

import re
from typing import Any

import typer

__all__ = ["field", "show", "shown"]

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, line separators, what turns the direction of a line, halves of a character."""


def shown(text: str) -> str:
    r"""Text with what a terminal would obey written as JSON writes it: \u001b. In JSON it still means the same."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def field(value: Any) -> str:
    """One field of a line of fields: `shown`, and neither a tab nor a line feed."""
    return shown(str(value)).replace("\t", "\\t").replace("\n", "\\n")


def show(text: Any = "", *, err: bool = False) -> None:
    """Print a line, or several, of a verb's own: every name or caption in it is a `field`."""
    typer.echo(shown(str(text)), err=err)
