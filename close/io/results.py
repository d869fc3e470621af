"""A file of results that is written row by row, goes on where it stopped, and appears when it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from close.errors import OutputExistsError, RecipeError
from close.io.files import locked, read_json, whole, write_json

__all__ = ["ResultFile"]

SUFFIXES = (".jsonl", ".parquet")


class ResultFile:
    """Rows for `path`, a `.jsonl` or `.parquet` file.

    Until all are there they lie in `path.partial` (JSONL), beside `path.partial.json` with what decides them.

    Args:
        about: what decides the rows; a partial file of another job is not continued.
        unit: rows that are made together; a stopped job goes on after the last whole unit.
    Attributes:
        done: rows that are there already. failed: those of them with an `error`.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], *, unit: int = 1) -> None:
        if path.suffix not in SUFFIXES:
            raise RecipeError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
        if path.exists():
            raise OutputExistsError(f"{path} exists; choose another output, or remove it")
        self.path, self.about, self.unit = path, dict(about), unit
        self.partial = path.with_name(path.name + ".partial")
        self.done, self.failed = 0, list[str]()

    @contextmanager
    def __call__(self) -> Iterator[ResultFile]:
        """Write inside; the file appears when the block ends without an error."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(Path(f"{self.partial}.lock"), f"{self.path} is being written"):
            self._continue()
            with self.partial.open("a", encoding="utf-8") as self._lines:
                yield self
            self._finish()

    def write(self, row: Mapping[str, Any]) -> None:
        """One more row."""
        self._lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self._lines.flush()

    def _continue(self) -> None:
        state = Path(f"{self.partial}.json")
        if not self.partial.exists():
            write_json(state, self.about)
            return
        if read_json(state) != self.about:
            raise OutputExistsError(f"{self.partial} was begun by another job; remove it, or choose another output")
        kept, rows = 0, 0
        with self.partial.open("rb") as lines:
            unit: list[bytes] = []
            for line in lines:
                unit.append(line)
                if not line.endswith(b"\n"):
                    break
                if len(unit) == self.unit:
                    kept, rows = kept + sum(map(len, unit)), rows + self.unit
                    self.failed += [error for row in map(json.loads, unit) if (error := row.get("error"))]
                    unit = []
        os.truncate(self.partial, kept)
        self.done = rows

    def _finish(self) -> None:
        if self.path.suffix == ".parquet":
            from pyarrow import json as arrow
            from pyarrow import parquet

            with whole(self.path) as rows:
                parquet.write_table(arrow.read_json(self.partial), rows)
            self.partial.unlink()
        else:
            os.replace(self.partial, self.path)
        Path(f"{self.partial}.json").unlink()
