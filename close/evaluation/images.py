"""Rows of one image made one example: captioned once, and scored against the captions of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from close.data.rows import Row

__all__ = ["PER_ROW", "about_images", "one_row_an_image", "rows_of_images"]

PER_ROW = ("vqa", "entailment")
"""Kinds of tasks of which several rows about one image are several questions about it."""


def rows_of_images(rows: Iterable[Row], kind: str) -> list[list[Row]]:
    """The rows of each example: those that show one image (or name one group, without images) behind one context."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        shown = str(row.image) if row.image is not None else row.group
        alone = shown is None or kind in PER_ROW
        found.setdefault(("", row.id) if alone else (str(shown), row.context, row.task or ""), []).append(row)
    return list(found.values())


def one_row_an_image(rows: Iterable[Row], kind: str) -> list[Row]:
    """The first row of each image, with the references (or targets, or sources) of all rows that show it."""
    return [_merged(group) for group in rows_of_images(rows, kind)]


def about_images(rows: int, images: int) -> str:
    """What was done to rows that share images."""
    return f"{rows:,} rows are of {images:,} images: each image is scored once, against the captions of all its rows"


def _merged(rows: list[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    said = [row.references or row.target or row.source for row in rows]
    same = all(one == said[0] for one in said)  # all captions beside each of them
    return replace(rows[0], references=said[0] if same else tuple(text for one in said for text in one))
