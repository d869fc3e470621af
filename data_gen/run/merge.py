"""Joining the outputs of the shards of one run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_gen.errors import InputError, OutputError, shown
from data_gen.run.progress import note
from data_gen.run.store import begun
from data_gen.text.files import json_line, read_rows, whole
from data_gen.text.words import digest, same_key
from data_gen.verbs import VERBS, Row, Verb, row_key

__all__ = ["merge_shards"]


def merge_shards(inputs: Sequence[Path], out: Path) -> tuple[int, int]:
    """Write the rows of all inputs, in order, to `out`; of rows that a run would call duplicates only the first.

    Rows that are accepted together, or not at all (the hypotheses of one premise), are left out together too.

    Returns:
        Rows kept, and rows left out.

    Raises:
        InputError: an input is unreadable or no JSONL; a line is no row that data-gen accepts; two texts have one id, or
            texts of two inputs one group (of runs whose journals are beside them).
        OutputError: `out` exists.
    """
    if out.exists():
        raise OutputError(f"{out} is there already; give another --out")
    seen: set[int] = set()
    keys: dict[int, int] = {}  # by id
    tasks: dict[str, None] = {}
    groups = _Groups()
    kept = dropped = 0
    with whole(out) as partial, partial.open("wb") as file:
        for path in inputs:
            groups.open(path)
            for _, entries in itertools.groupby(_entries(path), lambda entry: entry.unit):
                unit, fresh = list(entries), dict[int, Row]()
                for where, row, verb, key, _ in unit:
                    tasks[str(row.get("task") or "caption")] = None
                    if "id" in row and keys.setdefault(digest(ascii(row["id"])), key) != key:
                        told = f"{where}: the id {shown(row['id'])} came before with another text"
                        raise InputError(f"{told}; give runs of the same options a --shard each, or another --seed")
                    if verb and verb.grouped:
                        groups.check(where, row)
                    if key not in seen:
                        fresh.setdefault(key, row)
                least = unit[0].verb.least if unit[0].verb else 1
                if len(fresh) < min(least, len(unit)):  # a unit that --count cut off has fewer, and stays
                    fresh.clear()
                seen.update(fresh)
                kept, dropped = kept + len(fresh), dropped + len(unit) - len(fresh)
                file.writelines(map(json_line, fresh.values()))
    if len(tasks) > 1:
        note(f"{out} holds rows for {' and '.join(tasks)}: training reads all rows of a file for one task")
    return kept, dropped


class _Entry(NamedTuple):
    """A row of an input.

    Attributes:
        where: its file and line, for messages.
        verb: that wrote it, where it is known.
        key: what makes it the same as another.
        unit: the same for neighbours that were accepted together.
    """

    where: str
    row: Row
    verb: Verb | None
    key: int
    unit: Any


def _entries(path: Path) -> Iterator[_Entry]:
    for number, row in read_rows(path):
        where = f"{path}, line {number}"
        if not all(isinstance(part, str) for part in (row.get("source"), row.get("target"), row.get("context") or "")):
            raise InputError(f"{where}: not a row that data-gen writes (source and target)")
        stem = str(row.get("id")).rpartition("-")[0]  # of its verb, run and request; see `Plan.units`
        name = stem.rsplit("-", 2)[0]
        verb = VERBS[name]() if name in VERBS else None
        key = digest(same_key(verb.key(row) if verb else row_key(row)))
        meta, together = _meta(row), verb is not None and verb.least > 1
        yield _Entry(where, row, verb, key, (stem, meta.get("input"), meta.get("given")) if together else number)


class _Groups:
    """Which text each group is of: inputs without ids count their lines, and so call other images alike."""

    def __init__(self) -> None:
        self._inputs: dict[int, str | None] = {}  # by group; None: of several
        self._texts: dict[int, int | None] = {}
        self._input: str | None = None

    def open(self, path: Path) -> None:
        """Begin with a file; its journal knows its input, whose shards share groups, which may have several texts."""
        self._input = begun(path).get("params", {}).get("input")

    def check(self, where: str, row: Row) -> None:
        """Raise `InputError` if the row's group is a line of several inputs, and of several texts."""
        given = _meta(row).get("given")
        if self._input is None or given is None or not str(row.get("group")).isdecimal():
            return
        group, text = digest(str(row["group"])), digest(ascii(given))
        if self._inputs.setdefault(group, self._input) != self._input:
            self._inputs[group] = None
        if self._texts.setdefault(group, text) != text:
            self._texts[group] = None
        if self._inputs[group] is None and self._texts[group] is None:
            told = f"{where}: the group {shown(row['group'])} came before of another --input and text, and would be one image's"
            raise InputError(
                f"{told}; give captions their images' ids (.jsonl); where it is one, merge copies without their .journal"
            )


def _meta(row: Row) -> dict[str, Any]:
    return row["meta"] if isinstance(row.get("meta"), dict) else {}
