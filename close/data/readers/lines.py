"""Files of one record a line: JSONL as this project writes it, plain text, CSV and TSV; Parquet's columns follow CSV's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from close.data.columns import Skip
from close.data.readers.base import READERS, Reader, Values
from close.data.rows import by_one_name, parse_json
from close.data.tables import Table
from close.data.text import TextFile, check_plain, plain_lines
from close.errors import DataError, shown

__all__ = ["Csv", "Jsonl", "Txt", "by_record", "json_lines", "json_records"]


def json_records(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    """Yield (where, value) of a JSONL file, and the error of a line that has none; empty lines are passed over."""
    file = TextFile(path, encoding)
    for number, line in enumerate(file.lines(), 1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                file.check(line, where)
                yield where, parse_json(line, where)
            except DataError as error:
                yield where, error


def json_lines(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    """Yield (where, value) of a JSONL file; empty lines are passed over.

    Raises:
        DataError: a line is no JSON, or not in `encoding`.
    """
    for where, value in json_records(path, encoding):
        if isinstance(value, DataError):
            raise value
        yield where, value


@READERS.register("jsonl")
class Jsonl(Reader):
    """The project's own rows, checked. Streams."""

    reads = "this project's rows, one JSON object a line"

    def records(self) -> Iterator[tuple[str, Any]]:
        yield from json_records(self.path, self.options.encoding)

    def row(self, record: Any, where: str) -> Values:
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected a JSON object, not {type(record).__name__}")
        values = {"id": None} | by_one_name(record, where)
        if values["id"] in (None, ""):
            values["id"] = where.rpartition(":")[2]
        if isinstance(values.get("image"), (str, list)):
            values["image"] = self.images(values["image"], where)
        return values


@READERS.register("txt")
class Txt(Reader):
    """One caption a line. Streams."""

    reads = "a text file, one caption a line"
    uses = ()

    def records(self) -> Iterator[tuple[str, Any]]:
        file = TextFile(self.path, self.options.encoding)
        check_plain(file)
        for number, _, line in plain_lines(file):
            yield f"{self.path}:{number}", (file, line)

    def row(self, record: Any, where: str) -> Values:
        file, line = record
        file.check(line, where)
        if not line.strip():
            raise DataError(f"{where}: empty caption")
        return {"id": where.rpartition(":")[2], "source": line.strip()}


@READERS.register("csv")
class Csv(Reader):
    """A table, as `close.data.tables` finds its layout. Streams; with `per` image, captions are held in memory."""

    reads = "a table: CSV (, ; |), tab-separated, Flickr8k's and 30k's captions and token files, Conceptual Captions"
    uses = ("images", "per", "split", "columns")

    def records(self) -> Iterator[tuple[str, Any]]:
        table = Table(TextFile(self.path, self.options.encoding), self.options.columns)
        self.notes += table.notes
        records = ((f"{self.path}:{number}", (str(number), table, text)) for number, _, text in table.records())
        yield from by_record(self, records, lambda r, where: r[1].rows(r[2], where, r[0], split=self.per == "caption"))

    def row(self, record: Any, where: str) -> Values:
        return record | ({"image": self.images(record["image"], where)} if "image" in record else {})


def by_record(
    reader: Reader, records: Iterable[tuple[str, Any]], rows: Callable[[Any, str], list[Values]]
) -> Iterator[tuple[str, Any]]:
    """Yield (where, row) of each row that a table's record has, and what is wrong with a record in its place.

    Args:
        reader: with `per` "image", the captions of an image are gathered into the references of one row, at the end. Records
            of other splits than those asked for are left out before that.
        rows: the rows of a record.
    """
    gathered: dict[str, tuple[str, Values]] = {}
    for where, record in records:
        try:
            if isinstance(record, DataError):
                raise record
            found = rows(record, where)
            for values in found:
                reader.in_split(str(values.get("meta", {}).get("split", "")))
            if reader.per == "image":
                for values in found:
                    _gather(values, where, gathered)
                continue
        except (DataError, Skip) as error:
            yield where, error
            continue
        yield from ((where, values) for values in found)
    for where, values in gathered.values():
        yield where, {key: value for key, value in values.items() if value != []}


_OF_AN_IMAGE = ("image", "context", "target", "answers", "label", "task")
"""What a row of an image has once."""


def _gather(values: Values, where: str, gathered: dict[str, tuple[str, Values]]) -> None:
    """Put a record's captions to those of its image.

    Raises:
        DataError: it has no image, or says something else of it than another record, of which a row has one.
    """
    if not {"image", "group"} <= values.keys():
        raise DataError(
            f"{where}: no image, of which each row is to be (--per image); --images says in which folder they are, or are to "
            "be put, and --columns image=NAME which column names them"
        )
    source = values.pop("source", [])
    captions = values.pop("references", None) or ([source] if isinstance(source, str) else source)
    place, first = gathered.setdefault(values["group"], (where, values | {"id": values["group"], "references": []}))
    for key in _OF_AN_IMAGE:
        if values.get(key) != first.get(key):
            same = f"group {shown(values['group'])}, and rows of one group are one image" if key == "image" else "image"
            raise DataError(
                f"{where}: {key!r} is {shown(values.get(key))}, but {shown(first.get(key))} in {place}, of the same {same}; "
                "--per image gathers captions alone: convert these without it"
            )
    first["references"].extend(captions)
