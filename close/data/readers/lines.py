"""Files of one record a line: JSONL as this project writes it, plain text, CSV and TSV; Parquet's columns follow CSV's."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from close.data.readers.base import READERS, Reader, Values, decoded_lines
from close.data.rows import Row
from close.data.text import FIRST_LINES, not_plain
from close.errors import DataError

__all__ = ["Csv", "Jsonl", "Txt", "json_lines", "named_columns"]

_KEYS = tuple(f.name for f in fields(Row))
# Other names that columns go by; the first one present is taken.
_ALIASES = {
    "source": ("caption", "text", "sentence", "title", "premise"),
    "context": ("question", "hypothesis", "article"),
    "target": ("answer",),
    "image": ("image_path", "file_name", "filename", "filepath", "path", "file"),
    "references": ("captions",),
    "group": ("image_id",),
    "label": ("gold_label",),
}


def json_lines(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    """Yield (where, value) of a JSONL file; empty lines are passed over."""
    for number, line in decoded_lines(path, encoding):
        if not line.strip():
            continue
        try:
            yield f"{path}:{number}", json.loads(line)
        except json.JSONDecodeError as error:
            cut = "" if line.endswith("\n") else "; the file is cut off here"
            raise DataError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno}){cut}") from None


def named_columns(record: Mapping[str, Any], number: int) -> Values:
    """A row from a table's record: columns by our names or the usual ones; any other column goes to `meta`."""
    given = {name.strip().lower(): value for name, value in record.items() if value is not None and value != ""}
    values = {key: given.pop(key) for key in _KEYS if key in given}
    for key, aliases in _ALIASES.items():
        name = next((alias for alias in aliases if alias in given), None)
        if key not in values and name is not None:
            values[key] = given.pop(name)
    return {"id": str(number)} | values | {"meta": values.get("meta", {}) | given}


@READERS.register("jsonl")
class Jsonl(Reader):
    """The project's own rows, checked. Streams."""

    reads = "this project's rows, one JSON object a line"

    def records(self) -> Iterator[tuple[str, Any]]:
        yield from json_lines(self.path, self.options.encoding)

    def row(self, record: Any, where: str) -> Values:
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected a JSON object, not {type(record).__name__}")
        values = {"id": where.rpartition(":")[2]} | record
        if isinstance(values.get("image"), str):
            values["image"] = self.image(values["image"], where)
        return values


@READERS.register("txt")
class Txt(Reader):
    """One caption a line. Streams."""

    reads = "a text file, one caption a line"
    uses = ()

    def records(self) -> Iterator[tuple[str, Any]]:
        first = [line for _, line in islice(decoded_lines(self.path, self.options.encoding), FIRST_LINES)]
        if (found := not_plain(first)) is not None:
            raise DataError(f"{self.path}: expected one caption a line, but this looks like {found}")
        for number, line in decoded_lines(self.path, self.options.encoding):
            yield f"{self.path}:{number}", line.strip()

    def row(self, record: Any, where: str) -> Values:
        if not record:
            raise DataError(f"{where}: empty caption")
        return {"id": where.rpartition(":")[2], "source": record}


@READERS.register("csv")
class Csv(Reader):
    """A table with a header, commas between columns, or tabs where the header has tabs. Streams."""

    reads = "a table with a header, comma- or tab-separated"

    def records(self) -> Iterator[tuple[str, Any]]:
        lines = (line for _, line in decoded_lines(self.path, self.options.encoding))
        header = next(lines, "")
        reader = csv.reader(lines, strict=True, delimiter="\t" if "\t" in header else ",")
        names = next(csv.reader([header], delimiter="\t" if "\t" in header else ","), [])
        if len(set(names)) < len(names):
            raise DataError(f"{self.path}:1: two columns have one name: {', '.join(names)}")
        number = 0
        while True:
            where = f"{self.path}:{reader.line_num + 2}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(f"{where}: not CSV ({error})") from None
            if cells:
                number += 1
                yield where, (names, cells, number)

    def row(self, record: Any, where: str) -> Values:
        names, cells, number = record
        if len(cells) != len(names):
            raise DataError(f"{where}: {len(cells)} columns, but the header has {len(names)}: {', '.join(names)}")
        values = named_columns(dict(zip(names, cells, strict=True)), number)
        return values | ({"image": self.image(values["image"], where)} if "image" in values else {})
