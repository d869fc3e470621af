"""Parquet: columns named as in CSV; lists of captions; pictures as bytes, or a struct of bytes and path (Hugging Face)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from close.data.columns import Columns, by_caption, check_flags
from close.data.readers.base import READERS, Values
from close.data.readers.inside import Unpacked
from close.data.readers.lines import TableReader
from close.errors import DataError, reason
from close.io.files import check_file, files_below

__all__ = ["Parquet"]

_UNREADABLE = (ValueError, OverflowError, KeyError)
"""What pyarrow raises for text that is not UTF-8, dates beyond Python's, unknown time zones."""


@READERS.register("parquet")
class Parquet(TableReader):
    """One file, or every `.parquet` below a folder, by name. Streams batch by batch.

    Pictures, recordings and films inside are written out below `images`, named by their content: rows of one share its file,
    and are a group. Without that option they are left where they are. Numbers that Hugging Face's schema has names for
    (classes) become these.
    """

    reads = "Parquet, one file or a folder of them, columns as in CSV"

    def found(self) -> Iterator[tuple[str, Any]]:
        files = files_below(self.path, ".parquet") if self.path.is_dir() else [self.path]
        if not files:
            raise DataError(f"{self.path}: no .parquet file in this folder")
        self.unpacked = Unpacked(self.options.images)
        yield from self._records(files)
        self.notes += self.unpacked.notes(self.path)

    def _records(self, files: list[Path]) -> Iterator[tuple[str, Any]]:
        import pyarrow
        import pyarrow.parquet

        number = 0
        for path in files:
            try:
                check_file(path)
                file = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
                columns = Columns(file.schema_arrow.names, self.options.columns, str(path))
                self.notes = self.notes or [f"{path}: {columns.about()}"] * bool(columns.unused)
                classes, place = _classes(file.schema_arrow), 0
                for batch in file.iter_batches(batch_size=64):
                    names, values = batch.schema.names, [_values(column) for column in batch.columns]
                    for cells in zip(*values, strict=True):
                        number += 1
                        record = dict(zip(names, cells, strict=True))
                        yield f"{path}: row {place}", (number, columns, record | _named(record, classes))
                        place += 1
            except DataError as error:
                yield str(path), error
            except (pyarrow.ArrowException, OSError, *_UNREADABLE) as error:
                told = f"{path}: not a whole Parquet file ({reason(error, whole=False)})"
                yield str(path), DataError(told)

    def rows(self, record: Any, where: str) -> list[Values]:
        number, columns, record = record
        check_flags(record)
        values = columns.values(_with_pictures(record, columns), where)
        self.in_split(str(values.get("meta", {}).get("split", "")))  # before a picture is written
        images = values.get("image")  # names stay where their column is: sums of rows know their order
        given = images if isinstance(images, list) else [images]
        if not isinstance(given[0], str):
            values.pop("image", None)
        if inside := [one for one in given if isinstance(one, dict) and isinstance(one.get("bytes"), bytes)]:
            if self.options.images is not None:
                paths = [self.unpacked.write(str(one.get("path")), one["bytes"]) for one in inside]
                values.setdefault("group", ", ".join(Path(path).name for path in paths))
                values["image"] = paths if isinstance(images, list) else paths[0]
            elif not {"source", "references"} & values.keys():
                raise DataError(
                    f"{where}: its picture lies in the table, and there is no caption; --images says where to put it"
                )
        self.unpacked.without += "image" not in values
        return by_caption(values, str(number), split=self.per == "caption")


def _with_pictures(record: Values, columns: Columns) -> Values:
    """A record whose pictures are structs, as Hugging Face writes them, where they are bytes alone, as img2dataset does."""

    def struct(value: Any, name: str) -> Any:
        if isinstance(value, list):
            return [struct(one, name) for one in value]
        return {"bytes": value, "path": f"x.{name}"} if isinstance(value, bytes) else value

    own = {name for name, keys in columns.keys.items() if "image" in keys}
    return {name: struct(value, name) if name in own else value for name, value in record.items()}


def _values(column: Any) -> list[Any]:
    """The values of a column; one by one where not all of them can be had, as text where a date is beyond Python's."""
    try:
        return list(column.to_pylist())
    except _UNREADABLE:
        return [_value(cell) for cell in column]


def _value(cell: Any) -> Any:
    import pyarrow

    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return cell.cast(pyarrow.binary()).as_py().decode("utf-8", "surrogateescape")
    except _UNREADABLE:
        return getattr(cell, "value", None)  # of dates and times: their number


def _classes(schema: Any) -> dict[str, list[str]]:
    """Column to the names of its numbers, where Hugging Face's datasets wrote the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {name: feature["names"] for name, feature in features.items() if "names" in feature}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}
    return {name: names for name, names in found.items() if isinstance(names, list)}


def _named(record: Values, classes: dict[str, list[str]]) -> Values:
    numbers = ((name, record.get(name), names) for name, names in classes.items())
    return {name: str(names[n]) for name, n, names in numbers if isinstance(n, int) and 0 <= n < len(names)}
