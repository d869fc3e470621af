"""Text files as they come: which encoding, which lines, and whether plain text is plain."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["FIRST_LINES", "not_plain"]

FIRST_LINES = 20
"""Lines that are looked at to tell what a file is."""

_SUFFIX = r"\.(?:avif|bmp|gif|heic|jfif|jpe?g|png|tiff?|webp|flac|mp3|ogg|wav|avi|mkv|mov|mp4|webm)"
_NAMED = re.compile(rf"""["']?[^,;|\t]*{_SUFFIX}(?:\#\d+)?["']?\s*[,;|\t ]\s*\S""", re.IGNORECASE)
_FILE = re.compile(rf"""["']?\S*[^\s.]{_SUFFIX}["']?""", re.IGNORECASE)
_CELL = re.compile(r"""["']?[\w#.-]+["']?""")
_CAPTION = re.compile(
    r"(?:raw_?)?(?:captions?|sentences?|texts?|comments?|source|title|description)(?:[_ ]?\d+)?", re.I
)


def not_plain(lines: Sequence[str]) -> str | None:
    """What the first lines of a text file are, where they are no captions; and what reads it.

    Args:
        lines: the first ones of the file, `FIRST_LINES` of them or fewer.
    """
    given = [line.strip().lstrip("\ufeff") for line in lines if line.strip()]
    if not given:
        return None
    if re.match(r'[\[{]\s*(?:$|["\[{\]}])', given[0]):
        return "JSON: name it .jsonl if each line is one row, else `close convert` reads it (coco, karpathy, …)"
    if all(_NAMED.match(line) for line in given) or _is_table(given):
        return "a table: `close convert csv` reads it, as does everything else once its name ends in .csv"
    if all(_FILE.fullmatch(line) for line in given):
        return "a list of file names: `close convert folder` and `close embed images` take the folder of the files"
    return None


def _is_table(given: list[str]) -> bool:
    """Whether the first line names columns, or a tab or bar parts each line into as many cells."""
    for delimiter in "\t|,;":
        names = [name.strip() for name in given[0].split(delimiter)]
        parts = sorted(line.count(delimiter) for line in given)
        if len(names) == 1 or parts[len(parts) // 2] < len(names) - 1:
            continue
        if delimiter == "\t" or (delimiter == "|" and len(parts) > 1 and parts[0] == parts[-1]):
            return True
        if all(map(_CELL.fullmatch, names)) and any(_CAPTION.fullmatch(name.strip("\"'")) for name in names):
            return True
    return False
