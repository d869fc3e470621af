"""Whether a test is apart from what was learnt or chosen by: pictures that both have make its scores too good."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from close.data.rows import RowFile
from close.data.shards import is_rows, open_rows
from close.errors import CloseError
from close.io.keys import file_key
from close.io.parts import file_of
from close.runs.recipe import Recipe
from close.runs.sources import places_beside
from close.vectors.table import EmbeddingTable

__all__ = ["met_pictures", "pictures_of", "shared_pictures"]

_log = logging.getLogger(__name__)
MOST = 500_000
"""Rows that are read for it."""


def pictures_of(rows: RowFile) -> set[Path]:
    """The distinct files that rows show, by their full paths."""
    return {Path(os.path.abspath(file_of(image))) for row in rows for image in row.images}


def shared_pictures(pictures: Collection[Path], place: Path, columns: Mapping[str, str | int] | None = None) -> int:
    """How many of these pictures a place holds, as far as that can be known; of arrays and what can't be read it is 0.

    Args:
        pictures: full paths. place: rows, an embedding table, a folder of pictures, or a picture.
    """
    with suppress(CloseError, OSError):
        if is_rows(place):
            rows = open_rows(place, columns)
            known = {picture.resolve() for picture in pictures_of(rows)} if len(rows) <= MOST else set[Path]()
            return len(known & {picture.resolve() for picture in pictures})
        if (place / "table.json").is_file():
            keys = set(map(int, EmbeddingTable(place).keys))
            return sum(file_key(picture) in keys for picture in pictures)
        whole = Path(os.path.abspath(place))
        return sum(whole == picture or whole in picture.parents for picture in pictures)
    return 0


def met_pictures(values: Mapping[str, Any], rows: RowFile) -> dict[str, dict[str, int]]:
    """Where a run has met a test's pictures, which is told: how many its data, its adapters' tables and its memory hold.

    Args:
        values: the run's recipe with its places in full (`close.runs.folder.recipe_of`). rows: of the test.
    Returns:
        `met`, by the end of the place's path; nothing where there are none.
    """
    if not values or not (pictures := pictures_of(rows)):
        return {}
    try:
        recipe = Recipe.model_validate(values)
    except (CloseError, ValueError):  # of another version: it only can't be looked at
        return {}
    places = {part.train: recipe.data.columns for part in recipe.parts()}
    places |= {recipe.data.val: recipe.data.columns} if recipe.data.val else {}
    places |= {place: recipe.columns_of(place) for place in places_beside(recipe)}
    found = {place: count for place, columns in places.items() if (count := shared_pictures(pictures, place, columns))}
    for place, count in found.items():
        _tell(
            f"{rows.path}: {count} of its {len(pictures)} pictures are in {place}, which the run learnt from or was chosen by: "
            "scores are too good"
        )
    return {"met": {"/".join(place.parts[-2:]): count for place, count in found.items()}} if found else {}


@cache
def _tell(line: str) -> None:
    """Once: a sweep evaluates many runs on one test."""
    _log.warning(line)
