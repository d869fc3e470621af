"""Any real format, written as the project's JSONL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from close.data.readers.base import ReadOptions, ReadSummary, read_rows
from close.io.jobs import job
from close.io.keys import file_key
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
    folder: Path | None = None,
    tell: Callable[[ReadSummary], None] | None = None,
) -> ReadSummary:
    """Write the rows of a file in a real format to a JSONL file, which appears whole or not at all.

    Args:
        folder: what its images are relative to; without it, where `out` lies.
        tell: called with what came of it as the last thing; the same call replaces the file if it was killed before that.
    Raises:
        OutputExistsError: `out` is there and `overwrite` is not set.
        what `close.data.readers.read_rows` raises.
    """
    target, summary = Path(out), ReadSummary()
    about = {"format": name, "source": str(path), "key": file_key(Path(path)), "skip_errors": skip_errors}
    about |= {"options": str(options)}
    home = folder or target.parent
    with job(target, about, "is being written", overwrite=overwrite) as work:
        rows = read_rows(name, path, options=options, summary=summary, skip_errors=skip_errors, folder=home)
        with (
            progress(f"reading {path}", "rows") as update,
            # half a character, as JSON spells it
            work.partial.open("w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            for count, row in enumerate(rows, 1):
                file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
                if count % 1000 == 0:
                    update(count, count)
        if tell is not None:
            work.publish()
            tell(summary)
    return summary
