"""Joining the outputs of the shards of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_gen.errors import InputError, OutputError
from data_gen.text.files import json_line, read_rows, whole
from data_gen.text.words import digest, same_text

__all__ = ["merge_shards"]


def merge_shards(inputs: Sequence[Path], out: Path) -> tuple[int, int]:
    """Write the rows of all inputs, in order, to `out`; of rows with the same words only the first.

    Returns:
        Rows kept, and duplicates left out.

    Raises:
        InputError: an input is unreadable or no JSONL.
        OutputError: `out` exists.
    """
    if out.exists():
        raise OutputError(f"{out} is there already; give another --out")
    seen: set[int] = set()
    kept = dropped = 0
    with whole(out) as partial, partial.open("wb") as file:
        for path in inputs:
            for number, row in read_rows(path):
                key = digest(_key(path, number, row))
                if key in seen:
                    dropped += 1
                    continue
                seen.add(key)
                kept += 1
                file.write(json_line(row))
    return kept, dropped


def _key(path: Path, number: int, row: dict[str, Any]) -> str:
    parts = [row[part] for part in ("source", "context", "target") if part in row]
    if not all(isinstance(part, str) for part in parts):
        raise InputError(f"{path}, line {number}: not a row that data-gen writes")
    return "\n".join(map(same_text, parts))
