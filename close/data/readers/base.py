"""What every reader of a real format shares: options, checked rows, and the count of what was skipped and why."""

from __future__ import annotations

import codecs
import io
import math
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from close.data.columns import Skip, by_key
from close.data.rows import parse_row
from close.errors import DataError, MissingError, RecipeError, listed, shown
from close.io.files import below, check_file
from close.io.parts import FRAMES, check_frames, file_of, frame_names
from close.io.places import seen_from
from close.registry import Registry

__all__ = [
    "READERS",
    "ReadOptions",
    "ReadSummary",
    "Reader",
    "Skip",
    "formats",
    "get",
    "read_rows",
    "text",
]

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a format leaves open.

    Attributes:
        images: folder that image names are relative to, and then each image must exist; without it, the folder of the
            file. For tar shards and Parquet with pictures inside: the folder to write them to.
        per: "caption" for one row a caption (training), "image" for one row an image (evaluation); None as the format
            is used (NoCaps: image, others: caption).
        split: splits to keep, where the file has several; all without it.
        annotations: VQA 2.0, the answers; test questions have none.
        captions: of the images, which become the sources: VQA 2.0, COCO's file; NLVR2, what a captioner wrote.
        columns: of tables and shards, key to a column's name (or suffix), or its place from 0, as `parse_columns` makes it.
        frames: of a film, at even distances, which become the row's images; 8 without it.
        language: of captions, where the file has several (MSVD): English without it.
        encoding: of text; UTF-8 unless said otherwise, or by the file's byte-order mark.
    """

    images: Path | None = None
    per: Literal["caption", "image"] | None = None
    split: tuple[str, ...] = ()
    annotations: Path | None = None
    captions: Path | None = None
    columns: Mapping[str, str | int] | None = None
    frames: int | None = None
    language: str | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        check_frames(self.frames)
        by_key(self.columns or {})
        try:
            io.TextIOWrapper(io.BytesIO(), encoding=codecs.lookup(self.encoding).name)
        except (LookupError, ValueError):  # no such one, or one that is not of text
            raise RecipeError(f"unknown encoding {self.encoding!r}; usual ones are utf-8, latin-1, cp1252") from None


@dataclass
class ReadSummary:
    """What came of a file: records read, rows given, records skipped by reason, the first messages; how it was read."""

    read: int = 0
    written: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "read": self.read,
            "written": self.written,
            "skipped": dict(self.skipped.most_common()),
            "messages": self.messages,
            "notes": self.notes,
        }


class Reader(ABC):
    """A format: how its records are found, and what row one of them is.

    Subclass, register in `READERS`, done; the file may lie outside the package (`plugins`). `records` raises `DataError`
    for what makes the file unreadable from there on; `row` raises it for one record. A record may itself be the `DataError`
    or `Skip` that is to be raised for it.

    Attributes:
        reads: what file or folder it reads, in a line, for help and documentation.
        uses: the options that say something to this format, besides the encoding.
        default_per: what a row is made for, unless the option `per` says otherwise.
        notes: what is to be told of the file, beside its rows.
    """

    reads: ClassVar[str]
    uses: ClassVar[tuple[str, ...]] = ("images",)
    default_per: ClassVar[Literal["caption", "image"]] = "caption"

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self.path, self.options, self.notes = path, options, list[str]()
        for name in (f.name for f in fields(options) if f.name != "encoding"):
            if getattr(options, name) and name not in self.uses:
                taken = ", ".join((*self.uses, "encoding"))
                raise RecipeError(f"{path}: the option {name!r} means nothing to this format; it takes {taken}")
        self.per = options.per or self.default_per
        self.pictures = os.path.abspath(options.images or path.parent)

    @abstractmethod
    def records(self) -> Iterator[tuple[str, Any]]:
        """Yield (where, record); `where` names file and line or record."""

    @abstractmethod
    def row(self, record: Any, where: str) -> Values:
        """The row of one record: the keys of `close.data.rows.Row`, `image` a path from `self.image`."""

    def image(self, name: Any, where: str) -> str:
        """Path of an image named in the file."""
        if not isinstance(name, str):
            raise DataError(f"{where}: 'image' is {shown(name)}, expected the name of a file")
        path = below(self.pictures, name)
        if path is None:
            hint = "" if self.options.images else "; --images says which folder they are in"
            raise DataError(f"{where}: image {shown(name)} is not below {self.pictures}{hint}")
        if self.options.images and not os.path.exists(file_of(path)):
            raise DataError(f"{where}: image {shown(name)} is not in {self.options.images}")
        return path

    def images(self, names: Any, where: str) -> Any:
        """Path of an image named in the file, or of each of several."""
        return [self.image(name, where) for name in names] if isinstance(names, list) else self.image(names, where)

    def film(self, name: str, ending: str, where: str) -> list[str]:
        """Frames of a film named in the file: of a folder of frames of that name, if it is there, or of the film itself."""
        place = below(self.pictures, name)
        whole = name if place is not None and os.path.isdir(place) else f"{name}{ending}"
        return frame_names(self.image(whole, where), self.options.frames or FRAMES)

    def in_split(self, split: str) -> None:
        """Leave out records of other splits than those asked for."""
        if self.options.split and split not in self.options.split:
            raise Skip(f"split {split}")


_DEEPEST = 100
"""Levels of nested `meta`; JSON's own reader gives up at about a thousand."""

READERS: Registry[type[Reader]] = Registry("format")


def formats() -> dict[str, str]:
    """Every format that is registered: what it reads, and which options say something to it."""
    return {name: f"{kind.reads} ({', '.join((*kind.uses, 'encoding'))})" for name, kind in READERS.items()}


def read_rows(
    name: str,
    path: str | Path,
    *,
    options: ReadOptions | None = None,
    summary: ReadSummary | None = None,
    skip_errors: bool = False,
    folder: str | Path = ".",
) -> Iterator[Values]:
    """Yield the rows of a file in a real format, each checked, as JSON-ready values.

    Args:
        name: of the format, in `READERS`.
        summary: filled while rows are read.
        skip_errors: count a bad record and go on, instead of stopping at it.
        folder: where the rows will lie; image paths are made relative to it.

    Raises:
        UnknownNameError: no such format. MissingError: no such file.
        DataError: what is wrong, with file and line or record; two rows have one id; the file holds no row.
    """
    kind, summary, ids = READERS[name], ReadSummary() if summary is None else summary, set[int]()
    if not os.path.exists(path):
        raise MissingError(f"{path}: no such file or folder")
    if not os.path.isdir(path):
        check_file(path)
    reader, home = kind(Path(path), options or ReadOptions()), Path(os.path.abspath(folder))
    for where, record in _to_the_end(reader.records(), str(path), skip_errors):
        summary.read += 1
        try:
            if isinstance(record, (DataError, Skip)):
                raise record
            row = _checked(reader.row(record, where), where, ids, home)
        except Skip as skip:
            summary.skipped[str(skip)] += 1
            continue
        except DataError as error:
            if not skip_errors:
                # a first record that is bad speaks of what was asked for, as do messages that name an option
                hinted = bool(summary.written) and "--" not in str(error)
                hint = f"; close convert {name} IN OUT --skip-errors leaves such rows out" if hinted else ""
                raise type(error)(f"{error}{hint}") from None
            summary.skipped["error"] += 1
            summary.messages.extend([str(error)] if len(summary.messages) < 10 else [])
            continue
        summary.written += 1
        yield row
    summary.notes.extend(reader.notes)
    if not summary.written:
        first = f"; the first: {summary.messages[0]}" if summary.messages else ""
        skipped = ", ".join(f"{count} × {why}" for why, count in summary.skipped.items()) or "none"
        raise DataError(f"{path}: not one row; read {summary.read}, skipped: {skipped}{first}")


def _to_the_end(records: Iterator[tuple[str, Any]], path: str, skip_errors: bool) -> Iterator[tuple[str, Any]]:
    """The records; where the file can't be read on and errors are skipped, that error is the last one."""
    try:
        yield from records
    except DataError as error:
        if not skip_errors:
            raise
        yield path, error


def _checked(values: Values, where: str, ids: set[int], folder: Path) -> Values:
    values = {key: value for key, value in values.items() if value is not None and value != {}}
    if isinstance(values.get("meta"), dict):
        values["meta"] = _plain(values["meta"], where)
    if "image" in values:
        values["image"] = _below(values["image"], folder)
    row = parse_row(values, where, folder=folder, default_id="")
    if hash(row.id) in ids:
        raise DataError(f"{where}: a second row has the id {shown(row.id)}")
    ids.add(hash(row.id))
    return values | {"id": row.id} | ({"group": row.group} if values.get("group", "") != "" else {})


def _below(names: Any, folder: Path) -> Any:
    """A file's name, or several, relative to a folder where they are whole; anything else as it is."""
    if isinstance(names, list):
        return [_below(name, folder) for name in names]
    if not isinstance(names, str) or not os.path.isabs(names):
        return names
    place, name = os.path.split(names)
    return os.path.join(_from(place, folder), name)


@lru_cache(1024)
def _from(place: str, folder: Path) -> str:
    """A folder as it is found from another, whatever links lead to either."""
    try:
        near = seen_from(place, folder, shared=1)
    except ValueError:  # half a character, which is told with the row
        near = None
    return os.path.abspath(place) if near is None else "" if near == "." else near


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """A value as JSON has it: no NaN, no bytes, dates as text."""
    if depth > _DEEPEST:
        raise DataError(f"{where}: 'meta' is more than {_DEEPEST} levels deep")
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where, depth + 1) for key, item in value.items() if not isinstance(item, bytes)}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where, depth + 1) for item in value if not isinstance(item, bytes)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


def get(record: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A value that a record must have, of the type that the format says."""
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: expected an object, found {type(record).__name__}")
    if key not in record:
        raise DataError(f"{where}: no {key!r}; it has {listed(map(shown, record)) or 'nothing'}")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise DataError(f"{where}: {key!r} is {shown(value)}, expected {' or '.join(_NAMES[k] for k in kinds)}")
    return value


def text(record: Any, key: str, where: str) -> str:
    """A text that a record must have, without white space around it."""
    value: str = get(record, key, str, where).strip()
    if not value:
        raise DataError(f"{where}: {key!r} is an empty text")
    return value


_NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
