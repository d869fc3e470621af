"""Looks at what a verb is given, before torch and transformers are imported, which takes seconds: a slip is told at once.

What opens a thing later is called now, where the thing is not there: so its words are the same. None of it needs torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from close.errors import MissingError
from close.runs.slips import Slips

if TYPE_CHECKING:
    from close.runs.recipe import Recipe

__all__ = ["look_at", "look_at_items", "look_at_recipe"]


def look_at(**places: Path | Sequence[Path | None] | None) -> None:
    """Look at places of these kinds, in the order of the kinds; at none where None is given.

    Args:
        runs: of finished runs; what the hub is asked for is not looked at. rows: data files. tables: embedding tables.
        vectors: tables, or .npy files. data: rows or vectors. photos: photos, or rows with images.
        pictures: the same, but for a single file, of which an encoder speaks.
    Raises:
        CloseError: what opens it says that it is not there; of several, all that do.
    """
    slips = Slips()
    for kind, given in places.items():
        for place in [given] if given is None or isinstance(given, Path) else given:
            with slips.kept():
                if place is not None:
                    _look(kind, place)
    slips.tell()


def _look(kind: str, place: Path) -> None:
    from close.data.shards import is_rows, open_rows
    from close.io.media import check_photos
    from close.runs.folder import check_run
    from close.vectors.open import open_vectors
    from close.vectors.table import EmbeddingTable

    if kind == "runs":
        check_run(place)
    elif not os.path.exists(place) and not (kind == "pictures" and _kind(place)):
        openers: dict[str, Callable[[Path], Any]] = {
            "rows": open_rows,
            "vectors": open_vectors,
            "tables": EmbeddingTable,
            "data": open_rows if is_rows(place) else open_vectors,
            "photos": check_photos,
            "pictures": open_rows,
        }
        openers[kind](place)


def look_at_items(items: Sequence[Path]) -> list[MissingError]:
    """What reading says of pictures or recordings, where none of them is there; nothing where one is, or is something else."""
    from close.io.media import missing_file

    gone = all(_kind(item) and not os.path.exists(item) for item in items)
    return [missing_file(_kind(item), item) for item in items] if gone else []


def _kind(item: Path) -> str:
    """What messages call a file of its ending; nothing of other endings."""
    from close.io.media import RARE_SOUNDS, SOUND_SUFFIXES, picture_suffixes

    ending = item.suffix.lower()
    return "recording" if ending in (*SOUND_SUFFIXES, *RARE_SOUNDS) else "image" if ending in picture_suffixes() else ""


def look_at_recipe(recipe: Recipe) -> None:
    """What a recipe names, which need not be checked whole: the run that it begins from, its language model, rows and tables."""
    from close.io.places import check_directory
    from close.runs.folder import RUN_FILE, open_run

    slips = Slips()
    with slips.kept():
        if recipe.init_from is None:
            check_directory(recipe.language_model)
        elif not (
            recipe.init_from / RUN_FILE
        ).is_file():  # else it may need plug-ins of the recipe, which are loaded later
            open_run(recipe.init_from)
    parts = recipe.parts() if recipe.data.train or not isinstance(recipe.task, str) else []
    rows, tables = [*(part.train for part in parts), recipe.data.val], [part.embeddings for part in parts]
    with slips.kept():
        look_at(rows=rows, tables=tables, vectors=recipe.data.val_images)
    with slips.kept():
        if recipe.retrieve:
            recipe.retrieve.check_there()
    slips.tell()
