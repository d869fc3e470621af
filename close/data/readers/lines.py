"""Files of one record a line: JSONL as this project writes it, plain text, CSV and TSV; Parquet's columns follow CSV's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from close.data.columns import Skip
from close.data.readers.base import READERS, Reader, Values
from close.data.rows import by_one_name, parse_json
from close.data.tables import Table
from close.data.text import TextFile, check_plain, plain_caption, plain_lines
from close.errors import DataError, shown

__all__ = ["Csv", "Jsonl", "TableReader", "Txt", "json_lines", "json_records"]


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
        return {"id": where.rpartition(":")[2], "source": plain_caption(line)}


class TableReader(Reader):
    """A format whose records are named as a table's columns are, and may have several rows.

    With `per` "image", the captions of an image are gathered into the references of one row, at the end, in memory. Records of
    other splits than those asked for are left out before that.
    """

    uses: ClassVar[tuple[str, ...]] = ("images", "per", "split", "columns")

    @abstractmethod
    def found(self) -> Iterator[tuple[str, Any]]:
        """Yield (where, record) of the file; a record may be the `DataError` that is to be raised for it."""

    @abstractmethod
    def rows(self, record: Any, where: str) -> list[Values]:
        """The rows of a record."""

    def records(self) -> Iterator[tuple[str, Any]]:
        gathered: dict[str, tuple[str, Values]] = {}
        for where, record in self.found():
            try:
                if isinstance(record, DataError):
                    raise record
                rows = self.rows(record, where)
                for values in rows:
                    self.in_split(str(values.get("meta", {}).get("split", "")))
                if self.per == "image":
                    for values in rows:
                        _gather(values, where, gathered)
                    rows = []
            except (DataError, Skip) as error:
                yield where, error
            else:
                yield from ((where, values) for values in rows)
        for where, values in gathered.values():
            yield where, {key: value for key, value in values.items() if value != []}

    def row(self, record: Any, where: str) -> Values:
        return record | ({"image": self.images(record["image"], where)} if "image" in record else {})


@READERS.register("csv")
class Csv(TableReader):
    """A table, as `close.data.tables` finds its layout. Streams; with `per` image, captions are held in memory."""

    reads = "a table: CSV (, ; |), tab-separated, Flickr8k's and 30k's captions and token files, Conceptual Captions"

    def found(self) -> Iterator[tuple[str, Any]]:
        self.table = Table(TextFile(self.path, self.options.encoding), self.options.columns)
        self.notes += self.table.notes
        for number, _, text in self.table.records():
            yield f"{self.path}:{number}", (str(number), text)

    def rows(self, record: Any, where: str) -> list[Values]:
        number, text = record
        return self.table.rows(text, where, number, split=self.per == "caption")


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
