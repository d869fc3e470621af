"""A file of results that is written row by row, goes on where it stopped, and appears when it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from close.errors import RecipeError
from close.io.files import whole
from close.io.jobs import Job, job

__all__ = ["ResultFile"]

SUFFIXES = (".jsonl", ".parquet")


class ResultFile:
    """Rows for `path`, a `.jsonl` or `.parquet` file.

    Until all are there they lie in `path.partial` (JSONL), beside `path.partial.json` with what decides them.

    Args:
        about: what decides the rows; a partial file of another job is not continued.
        unit: rows that are made together; a stopped job goes on after the last whole unit.
        keys: what each row is made of (`close.io.keys.file_key`); a stopped job goes on before the first that has changed.
        kept: told of each row that is there already.
    Attributes:
        done: rows that are there already.
    Raises:
        RecipeError: the name ends in something else. OutputExistsError: the file is there.
    """

    def __init__(
        self,
        path: Path,
        about: Mapping[str, Any],
        *,
        unit: int = 1,
        keys: Sequence[int] = (),
        kept: Callable[[Mapping[str, Any]], None] = lambda row: None,
    ) -> None:
        if path.suffix not in SUFFIXES:
            raise RecipeError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
        Job(path, about).check()
        self.path, self.about, self.unit, self.keys = path, dict(about), unit, list(keys)
        self.done, self.kept = 0, kept

    @contextmanager
    def __call__(self) -> Iterator[ResultFile]:
        """Write inside; the file appears when the block ends without an error, or by `finish` before."""
        with job(self.path, self.about, "is being written", continues=True) as self._job:
            self._continue()
            with self._job.partial.open("a", encoding="utf-8") as self._lines:
                yield self
            self.finish()

    def write(self, row: Mapping[str, Any]) -> None:
        """One more row."""
        self._lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self._lines.flush()

    def finish(self) -> None:
        """All rows are there."""
        self._lines.close()
        if self.path.suffix == ".parquet" and self._job.partial.exists():
            from pyarrow import parquet

            with whole(self.path) as rows:
                parquet.write_table(_table(self._job.partial), rows)
            self._job.partial.unlink()
        self._job.publish()

    def _continue(self) -> None:
        partial = self._job.partial
        if self.path.suffix == ".jsonl" and self.path.exists():  # killed after it was finished
            os.replace(self.path, partial)
        if partial.exists():
            both = zip(self._job.found.get("keys", ()), self.keys, strict=False)
            self._keep(next((row for row, (old, new) in enumerate(both) if old != new), None))
        self._job.note(keys=self.keys)

    def _keep(self, changed: int | None) -> None:
        """Cut the partial file to its last whole unit, before the one with the first row that has changed."""
        kept, unit = 0, list[bytes]()
        with self._job.partial.open("rb") as lines:
            for line in lines:
                unit.append(line)
                if not line.endswith(b"\n") or (changed is not None and self.done + len(unit) > changed):
                    break
                if len(unit) == self.unit:
                    kept, self.done = kept + sum(map(len, unit)), self.done + self.unit
                    for row in map(json.loads, unit):
                        self.kept(row)
                    unit = []
        os.truncate(self._job.partial, kept)


def _table(lines: Path) -> Any:
    """The rows of a file of JSON lines, without guesses: texts that look like dates stay texts, empty columns have their type."""
    import pyarrow
    from pyarrow import json as arrow

    text, number = pyarrow.string(), pyarrow.float64()
    candidates = pyarrow.list_(pyarrow.struct({"text": text, "score": number, "cosine": number}))
    known = {"text": text, "score": number, "item": text, "error": text, "confidence": number, "candidates": candidates}
    with lines.open("rb") as file:
        longest = max(map(len, file), default=0)
        file.seek(0)
        first = json.loads(file.readline() or b"{}")
    block = arrow.ReadOptions(block_size=max(1 << 20, longest))  # a row lies in two blocks at most
    schema = arrow.ParseOptions(explicit_schema=pyarrow.schema(known))
    table = arrow.read_json(lines, read_options=block, parse_options=schema)
    return table.drop([name for name in known if name not in first and table[name].null_count == len(table)])
