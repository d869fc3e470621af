"""Which texts and images belong together, from a file of pairs or from the data file that the tables were made of."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from close.data.readers.lines import json_lines
from close.data.rows import RowFile, named_images, named_sources
from close.data.shards import open_rows
from close.data.text import TextFile
from close.errors import DataError, MismatchError, MissingError, RecipeError
from close.tasks import source_labels
from close.vectors.checked import Ints
from close.vectors.groups import ItemFinder
from close.vectors.open import open_vectors

__all__ = ["Pairing", "check_pairs", "read_index", "read_pairs", "side_by_side"]


@dataclass(frozen=True)
class Pairing:
    """Pairs, and what a reader may see of them.

    Attributes:
        pairs: (P, 2) text and image rows; None pairs by row, "unpaired" has none.
        groups: (N,) labels of the texts, or None.
        captions: text row → caption. pictures: image row → file.
        left_out: sources and images of the file whose vectors are not in the tables.
    """

    pairs: Ints | Literal["unpaired"] | None
    groups: npt.NDArray[Any] | None = None
    captions: Mapping[int, str] = field(default_factory=dict)
    pictures: Mapping[int, Path] = field(default_factory=dict)
    left_out: int = 0


def check_pairs(pairs: Path | None, text: Path | None, image: Path | None) -> None:
    """Refuse pairs of tables that are not given.

    Raises:
        RecipeError: one is missing.
    """
    if pairs and not (text and image):
        raise RecipeError("--pairs says which rows of two tables belong together: give --text and --image")


def read_pairs(path: Path, text: Any, image: Any, task: str | None = None) -> Pairing:
    """Pairs from rows `{"text": …, "image": …}` (JSONL or CSV), or from a data file or folder of shards (rows with a `source`).

    What names a row is an id of its table; or its number, where none that the file gives of that side is an id. In a data file
    the sources of a row belong to its image, and rows of one `group`, or without one of the same image, are captions of one
    image; captions and pictures come along for the report.

    Args:
        text, image: as `open_vectors` gives them. task: that a data file's rows are read for.
    Raises:
        MissingError: no such file.
        DataError: a line is wrong (it is named), or there is no pair in the file.
        MismatchError: a data file does not have as many sources or images as a `.npy` has rows.
    """
    if path.is_dir():
        return _from_data(open_rows(path), text, image, task)
    if not path.is_file():
        raise MissingError(f"{path}: no such file")
    try:
        first = next(_rows(path), ("", {}))[1]
    except DataError:  # told below, of a data file
        first = {}
    if {"text", "image"} <= set(first):
        return Pairing(_from_names(list(_rows(path)), text, image))
    return _from_data(open_rows(path), text, image, task)


def side_by_side(per_image: int, text: Any, image: Any) -> Pairing:
    """Pairs where every image has the same number of texts, which follow each other in the order of the images.

    Args:
        per_image: texts an image. text, image: as `open_vectors` gives them.
    Raises:
        MismatchError: there are not `per_image` times as many texts as images.
    """
    if len(text) != per_image * len(image):
        raise MismatchError(
            f"{len(text)} texts are not {per_image} for each of {len(image)} images ({per_image * len(image)}): "
            "say which belong together by --pairs"
        )
    texts = np.arange(len(text))
    return Pairing(np.stack((texts, texts // per_image), axis=1), texts // per_image)


def read_index(path: Path, text: Path, image: Path) -> Ints:
    """(P, 2) text and image rows of two tables or `.npy` files that belong together; see `read_pairs`."""
    pairs = read_pairs(path, open_vectors(text, "text"), open_vectors(image, "image")).pairs
    assert isinstance(pairs, np.ndarray)
    return pairs


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, object) of a JSONL or CSV file; DataError at what is neither."""
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(TextFile(path).lines(""), skipinitialspace=True)
        try:
            for row in reader:
                yield f"{path}:{reader.line_num}", row
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV ({error})") from None
        return
    for where, row in json_lines(path, "utf-8"):
        if not isinstance(row, dict):
            raise DataError(f'{where}: expected {{"text": …, "image": …}}, not {row!r:.80}')
        yield where, row


def _from_names(rows: Sequence[tuple[str, dict[str, Any]]], text: Any, image: Any) -> Ints:
    """(P, 2) what the file's rows name; they come with the file and line of each."""
    sides = ("text", text), ("image", image)
    find = {side: _by_name([row.get(side) for _, row in rows], side, table) for side, table in sides}
    return np.array([[find[side](row.get(side), where) for side, _ in sides] for where, row in rows], dtype=np.int64)


def _by_name(keys: Sequence[Any], side: str, table: Any) -> Callable[[Any, str], int]:
    """From a key, and where it stands, to its row: by ids if any of the keys is one; or else by row numbers.

    A number that is no id must not become a row's number beside ids that are numbers too: it would be another row.
    """
    by_id = {name: row for row, name in enumerate(table.ids or ())}
    named = any(_name(key) in by_id for key in keys)
    expected = f"a row number from 0 to {len(table) - 1}"
    if named:
        expected = f"an id of {table.path}, as others in this file are: leave the line out, or embed what it names"
    elif table.ids is not None:
        expected = f"an id of {table.path} or {expected}"

    def find(key: Any, where: str) -> int:
        name = _name(key)
        row = by_id.get(name)
        if not named and (number := (name or "").strip()).isdecimal() and len(number) < 19 and int(number) < len(table):
            row = int(number)
        if row is None:
            raise DataError(f"{where}: {side} is {key!r:.80}, expected {expected}")
        return row

    return find


def _name(key: Any) -> str | None:
    return None if isinstance(key, bool) or not isinstance(key, (int, str)) else str(key)


def _from_data(rows: RowFile, text: Any, image: Any, task: str | None) -> Pairing:
    texts, images = ItemFinder(text), ItemFinder(image)
    pairs, pictures = list[tuple[int, int]](), dict[int, Path]()
    captions, groups, left_out = {}, {}, 0
    for row in rows:
        of_images = source_labels(row, task)
        apart = len({*of_images}) > 1  # a source is of the image in its place
        shown = [(images.row([name, *_tails(path)]), path) for name, path in named_images(row)]
        pictures |= {v: path for v, path in shown if v is not None}
        for view, (name, source) in enumerate(named_sources(row)):
            t = texts.row([name])
            if t is None:
                left_out += 1
                continue
            captions[t] = source
            groups[t] = of_images[view]
            pairs.extend((t, v) for v, _ in (shown[view : view + 1] if apart else shown) if v is not None)
        left_out += sum(v is None for v, _ in shown)
    for finder in (texts, images):
        finder.check_length(rows.path)
    if not pairs:
        raise DataError(f"{rows.path}: no row has both a source and an image whose vectors are in the tables")
    labels = np.array([groups.get(t, f"\0\0{t}") for t in range(len(text))])
    return Pairing(np.array(pairs, dtype=np.int64), labels, captions, pictures, left_out)


def _tails(path: Path) -> list[str]:
    """A path's endings, longest first: a table made of a folder names its files relative to it."""
    parts = path.parts
    return ["/".join(parts[start:]) for start in range(1, len(parts))]
