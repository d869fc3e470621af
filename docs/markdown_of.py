"""Cells, code and tables of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["cell", "code", "plain", "table"]


def cell(text: object) -> str:
    """What may stand in a table's cell: one line without a bar."""
    return plain(" ".join(str(text).split())).replace("|", "\\|")


def plain(words: str) -> str:
    """Plain words, in which code may stand between backticks, as Markdown."""
    parts = re.split(r"(`[^`]*`)", words)
    return "".join(part if part[:1] == "`" else re.sub(r"([*_])", r"\\\1", part.replace("<", "&lt;")) for part in parts)


def code(text: object) -> str:
    return f"`{' '.join(str(text).split())}`".replace("|", "\\|") if str(text) else ""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
