"""Joining the outputs of the shards of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_gen.errors import InputError, OutputError, shown
from data_gen.text.files import json_line, read_rows, whole
from data_gen.text.words import digest, same_key
from data_gen.verbs import VERBS, row_key

__all__ = ["merge_shards"]


def merge_shards(inputs: Sequence[Path], out: Path) -> tuple[int, int]:
    """Write the rows of all inputs, in order, to `out`; of rows that a run would call duplicates only the first.

    Returns:
        Rows kept, and duplicates left out.

    Raises:
        InputError: an input is unreadable or no JSONL; a line is no row that data-gen accepts; two texts have one id.
        OutputError: `out` exists.
    """
    if out.exists():
        raise OutputError(f"{out} is there already; give another --out")
    seen: set[int] = set()
    keys: dict[int, int] = {}  # by id
    kept = dropped = 0
    with whole(out) as partial, partial.open("wb") as file:
        for path in inputs:
            for number, row in read_rows(path):
                key = digest(_key(path, number, row))
                if "id" in row and keys.setdefault(digest(ascii(row["id"])), key) != key:
                    told = f"{path}, line {number}: the id {shown(row['id'])} came before with another text"
                    raise InputError(f"{told}; give runs of the same options a --shard each, or another --seed")
                if key in seen:
                    dropped += 1
                    continue
                seen.add(key)
                kept += 1
                file.write(json_line(row))
    return kept, dropped


def _key(path: Path, number: int, row: dict[str, Any]) -> str:
    if not all(isinstance(part, str) for part in (row.get("source"), row.get("target"), row.get("context") or "")):
        raise InputError(f"{path}, line {number}: not a row that data-gen writes (source and target)")
    name = str(row.get("id")).rsplit("-", 3)[0]  # of its verb; see `Plan.units`
    return same_key(VERBS[name]().key(row) if name in VERBS else row_key(row))
