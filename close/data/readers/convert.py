"""Any real format, written as the project's JSONL."""

from __future__ import annotations

import json
from pathlib import Path

from close.data.readers.base import ReadOptions, ReadSummary, read_rows
from close.errors import OutputExistsError
from close.io.files import whole
from close.io.progress import progress

__all__ = ["convert"]


def convert(
    name: str,
    path: str | Path,
    out: str | Path,
    *,
    options: ReadOptions | None = None,
    skip_errors: bool = False,
    overwrite: bool = False,
) -> ReadSummary:
    """Write the rows of a file in a real format to a JSONL file, which appears whole or not at all.

    Raises:
        OutputExistsError: `out` is there and `overwrite` is not set.
        what `close.data.readers.read_rows` raises.
    """
    target, summary = Path(out), ReadSummary()
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} is there already; choose another name or overwrite it")
    rows = read_rows(name, path, options=options, summary=summary, skip_errors=skip_errors, folder=target.parent)
    with (
        whole(target) as partial,
        progress(f"reading {path}", "rows") as update,
        partial.open("w", encoding="utf-8", errors="backslashreplace") as file,  # half a character, as JSON spells it
    ):
        for count, row in enumerate(rows, 1):
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            if count % 1000 == 0:
                update(count, count)
    return summary
