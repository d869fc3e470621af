"""Rows of one image made one example: captioned once, and scored against the captions of all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from close.data.rows import Row, RowFile
from close.errors import DataError
from close.tasks import Task

__all__ = [
    "PER_ROW",
    "References",
    "about_images",
    "images_of_rows",
    "one_row_an_image",
    "part_of",
    "pictured",
    "rows_of_images",
    "select_rows",
]

PER_ROW = ("vqa", "entailment")
"""Kinds of tasks of which several rows about one image are several questions about it."""


class References(dict[str, Any]):
    """Id to what a prediction is compared with.

    Attributes:
        images: id to what says of which image it is, where that is known.
    """

    def __init__(self, values: Mapping[str, Any], images: Mapping[str, Hashable] | None = None) -> None:
        super().__init__(values)
        self.images = images or {}


def rows_of_images(rows: Iterable[Row], kind: str) -> list[list[Row]]:
    """The rows of each example: of one image, or of the same ones (or of one group, without images), behind one context."""
    found: dict[tuple[Hashable, ...], list[Row]] = {}
    for row in rows:
        shown = _shown(row)
        alone = shown is None or kind in PER_ROW
        found.setdefault((None, row.id) if alone else (shown, row.context, row.task or ""), []).append(row)
    return list(found.values())


def one_row_an_image(rows: Iterable[Row], kind: str) -> list[Row]:
    """The first row of each image, with the references (or targets, or sources) of all rows that show it."""
    return [_merged(group) for group in rows_of_images(rows, kind)]


def select_rows(rows: RowFile, task: Task) -> list[Row]:
    """What stands in for images, a row each: its source, and what is to be said of it.

    Rows with references (or answers, or a label) are taken as they are, captions of one image together. Of captions that share a
    `group` the first is the source, and the others are its references.

    Raises:
        DataError: no row has a source and references; or captions without references, and no two of one group.
    """
    if task.metric != "caption" or any(row.references for row in rows):
        found = [row for row in rows if row.source and (task.metric != "caption" or row.references)]
        if not found:
            raise DataError(
                f"{rows.path}: to select by text, rows need a 'source' beside their references; no row has both"
            )
        return one_row_an_image(found, task.metric)
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.group is not None:
            groups[row.group].append(row)
    told = [
        replace(members[0], references=tuple(row.source[0] for row in members[1:]))
        for members in groups.values()
        if len(members) > 1
    ]
    if not told:
        raise DataError(
            f"{rows.path}: to select by text, rows need 'references', or captions of one image a common 'group'; neither is there"
        )
    return told


def about_images(rows: int, images: int) -> str:
    """What was done to rows that share images."""
    return f"{rows:,} rows are of {images:,} images: each image is scored once, against the captions of all its rows"


def part_of(references: Mapping[str, Any], ids: Collection[str]) -> References:
    """The references of some examples."""
    wanted = frozenset(ids)
    return References({key: references[key] for key in references if key in wanted}, _images(references))


def pictured(ids: Sequence[str], references: Mapping[str, Any]) -> list[Hashable]:
    """Of which image each example is: examples of one are no independent ones. By itself where nothing is known."""
    images = _images(references)
    return [images.get(key, (None, key)) for key in ids]


def images_of_rows(rows: Iterable[Row]) -> dict[str, Hashable]:
    """Id of each row to its image or images, or its group; of those that have either."""
    return {row.id: shown for row in rows if (shown := _shown(row))}


def _images(references: Mapping[str, Any]) -> Mapping[str, Hashable]:
    return references.images if isinstance(references, References) else {}


def _shown(row: Row) -> Hashable:
    """What a row has in common with others of its image, or images: these, or its group; None where it has neither."""
    return row.images or row.group


def _merged(rows: list[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    said = [row.references or row.target or row.source for row in rows]
    same = all(one == said[0] for one in said)  # all captions beside each of them
    meta = {key: value for row in reversed(rows) for key, value in row.meta.items()}  # of the first that says it
    return replace(rows[0], references=said[0] if same else tuple(text for one in said for text in one), meta=meta)
