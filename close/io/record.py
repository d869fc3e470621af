"""What a record of results says of how it was made, and whether today's code would make it again."""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from close.io.files import read_json
from close.io.versions import versions

__all__ = ["CODE", "UNKNOWN", "bare", "code_sums", "outdated", "stamp", "stamped"]

PACKAGE = Path(__file__).parents[1]
UNKNOWN = "unknown"
CODE = {
    "training": ("adapters", "data", "encoders", "fast", "model", "retrieval", "tasks", "training", "vectors"),
    "scoring": ("evaluation", "runs"),
}
"""The rooms whose code decides what is learnt, and what of it is counted as right."""
WORLDS = ("mini_world", "mini_sound_world")


def stamp(runs: Path | None = None, kept: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What decides a record's numbers, to be kept with them.

    Args:
        runs: the folder that the runs lie in which it tells of, made now or earlier; their own code counts, not today's.
        kept: a record that some of its numbers were taken from.
    Returns:
        versions: of packages and embedded worlds. code: a hash of each part of `CODE`, several with spaces between where not all
        is of one. commit: of the checkout, with a `+` where the code differs from it, None where the toolkit was installed
        without one. processor: its kind.
    """
    code, files = {}, {"training": "run.json", "scoring": "evaluations/*/scores.json"}
    for part in CODE:
        own = (
            [code_sums()[part]] if runs is None else [_code(read_json(f), part) for f in Path(runs).rglob(files[part])]
        )
        code[part] = _joined([*own, *(_code(kept, part).split() if kept else ())])
    return {"versions": versions(), "code": code, "commit": _commit(), "processor": platform.machine()}


def stamped(record: Any) -> Iterator[Mapping[str, Any]]:
    """What of a record has a stamp: itself, or parts of it."""
    for one in [record, *record.values()] if isinstance(record, dict) else ():
        if isinstance(one, dict) and isinstance(one.get("versions"), dict):
            yield one


def outdated(record: Mapping[str, Any]) -> list[str]:
    """What of that which decided a record has another hash today: "mini_world", "training", "scoring"; none of a fresh one.

    A changed hash says that code or world are others, not that numbers would be: only making them again tells.

    Args:
        record: with a `stamp`; of one that has none, all code is unknown, and is named.
    """
    worlds, now = record.get("versions") or {}, versions()
    other = [world for world in WORLDS if world in worlds and worlds[world] != now[world]]
    return other + [part for part in CODE if _code(record, part) != code_sums()[part]]


def _code(record: Mapping[str, Any], part: str) -> str:
    return str((record.get("code") or {}).get(part, UNKNOWN))


def _joined(sums: Iterable[str]) -> str:
    return " ".join(sorted(set(sums))) or UNKNOWN


@cache
def code_sums() -> dict[str, str]:
    """A hash of the code of each part of `CODE`; spaces, line ends, comments and docstrings don't count."""
    found = {}
    for part, rooms in CODE.items():
        whole = hashlib.sha256()
        for room in rooms:
            for file in sorted((PACKAGE / room).rglob("*.py")):
                whole.update(f"{file.relative_to(PACKAGE).as_posix()}\n".encode())
                whole.update(bare(file.read_text(encoding="utf-8")).encode())
        found[part] = whole.hexdigest()[:12]
    return found


def bare(source: str) -> str:
    """Python without what does nothing when it runs."""
    lines = source.split("\n")
    for (first, start), (last, end) in reversed(list(_idle(source))):
        kept = lines[first - 1][:start] + lines[last - 1][end:]
        lines[first - 1 : last] = [kept]
    return "".join("\n".join(lines).split())


def _idle(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where comments, and texts that are statements, begin and end."""
    breaks = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    before, text = tokenize.ENCODING, None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start, token.end
        if token.type in (tokenize.COMMENT, tokenize.NL):
            continue
        if text is not None and token.type == tokenize.NEWLINE:
            yield text.start, text.end
        text = token if token.type == tokenize.STRING and before in breaks else None
        before = token.type


@cache
def _commit() -> str | None:
    """Of the checkout that the package lies in, if it does."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(PACKAGE.parent), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    if not (PACKAGE.parent / ".git").exists():
        return None
    try:
        return git("rev-parse", "HEAD")[:12] + ("+" if git("status", "--porcelain", "--", "close") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
