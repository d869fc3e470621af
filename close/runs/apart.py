"""Whether a test is apart from what was learnt or chosen by: pictures that both have make its scores too good."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.adapters.resolve import files_in
from close.data.rows import Row, evenly
from close.data.shards import is_rows, open_rows
from close.errors import CloseError, listed, warn_once
from close.io.files import files_below
from close.io.keys import file_key
from close.io.parts import file_of
from close.io.plain import read_plain
from close.runs.folder import recipe_of
from close.runs.recipe import Recipe, checked
from close.vectors.table import EmbeddingTable

__all__ = ["learnt_from", "met_pictures", "pictures_of", "shared_pictures", "tell_met"]

_log = logging.getLogger(__name__)
Columns = Mapping[str, str | int] | None
SAMPLED = 1000
"""Rows of which one has to name a picture, so that all are read for theirs."""


def learnt_from(recipe: Recipe, memory: Path | None = None) -> dict[Path, Columns]:
    """Places of what a recipe learns from or chooses by, that a test should be apart from, with what is said of their columns.

    Args:
        recipe: with its places in full. memory: that is searched in place of its own.
    """
    data, retrieve = recipe.data, recipe.retrieve
    places: dict[Any, Columns] = {part.train: data.columns for part in recipe.parts()}
    places |= {part.embeddings: None for part in recipe.parts()} | {data.val: data.columns, data.val_images: None}
    for place in map(Path, files_in(recipe.adapter)):
        made_of = read_plain(place / "adapter.json").get("made_of") if (place / "adapter.json").is_file() else None
        found = made_of.values() if isinstance(made_of, dict) else [place]
        places |= {Path(one): recipe.columns_of(one) for one in found if isinstance(one, (str, Path))}
    if searched := memory or (retrieve.memory if retrieve else None):
        places[searched] = recipe.columns_of(searched)
    if recipe.init_from is not None and not Path(recipe.init_from).is_dir():
        places[recipe.init_from] = None  # that it is not there is told
    elif recipe.init_from is not None:
        with suppress(CloseError, ValueError):  # of another version
            places = learnt_from(_as_kept(recipe_of(Path(recipe.init_from)))) | places
    return {place: columns for place, columns in places.items() if place is not None}


def _as_kept(values: Mapping[str, Any]) -> Recipe:
    """A run's recipe, whose tables and plug-ins may be gone by now: only its places are asked for."""
    return checked(dict(values), "the run's recipe", only_keys=True)


def pictures_of(rows: Iterable[Row]) -> dict[str, set[Path]]:
    """The files that rows show, by their full names, each with the names that rows have for it or for its parts."""
    found = defaultdict[str, set[Path]](set)
    for row in rows:
        for image in row.images:
            found[_full(file_of(image))].add(Path(image))
    return found


def shared_pictures(pictures: Mapping[str, set[Path]], place: Path, columns: Columns = None) -> int:
    """How many of these pictures a place holds, as far as that can be known; of arrays and what can't be read it is 0.

    Args:
        pictures: of `pictures_of`. place: rows, an embedding table, a folder of pictures, or a picture.
    """
    with suppress(CloseError, OSError):
        held = _held(place, file_key(place), tuple((columns or {}).items()))
        if isinstance(held, frozenset):
            return len(held & pictures.keys())
        keys = [[file_key(name) for name in (Path(file), *names)] for file, names in pictures.items()]
        known = set(np.intersect1d(held, np.array([key for some in keys for key in some], np.uint64)).tolist())
        return sum(not known.isdisjoint(some) for some in keys)
    return 0


def tell_met(rows: Iterable[Row], places: Mapping[Path, Columns], test: str) -> list[dict[str, Any]]:
    """Tell, once, which of a test's pictures lie in what was learnt from or chosen by, and what of that is not there.

    Returns:
        Of each place that has any: the end of its path, and how many.
    """
    pictures = pictures_of(rows) if places else {}
    counts = {place: shared_pictures(pictures, place, columns) for place, columns in places.items()} if pictures else {}
    if gone := sorted({place.name for place in counts if not place.exists()}):
        lost = "what the run learnt from, or was chosen by, is not there any more"
        warn_once(_log, f"{listed(gone)}: {lost}, so it is not known whether it has met the pictures of {test}")
    found = {place: count for place, count in counts.items() if count}
    for place, count in found.items():
        met = "what has learnt from these, or was chosen by them, scores too well"
        warn_once(_log, f"{count} of the {len(pictures)} pictures of {test} are in {place}: {met}")
    return [{"place": "/".join(place.parts[-2:]), "pictures": count} for place, count in found.items()]


def met_pictures(
    values: Mapping[str, Any], rows: Iterable[Row], test: Path, memory: Path | None = None
) -> dict[str, Any]:
    """`met`: what `tell_met` finds of a run's test; nothing where it has met none.

    Args:
        values: the run's recipe with its places in full (`close.runs.folder.recipe_of`). rows: that are scored, of `test`.
        memory: that it searches in place of its own.
    """
    try:
        places = learnt_from(_as_kept(values), memory) if values else {}
    except (CloseError, ValueError):  # of another version: it only can't be looked at
        return {}
    met = tell_met(rows, places, str(test))
    return {"met": met} if met else {}


@cache
def _held(place: Path, key: int, columns: tuple[tuple[str, str | int], ...]) -> frozenset[str] | NDArray[np.uint64]:
    """Full names of the pictures in a place, or of an embedding table the keys; read once as long as it is the same."""
    if is_rows(place, images=True):
        rows = open_rows(place, dict(columns) or None)
        some = (rows[index] for index in evenly(len(rows), SAMPLED))
        return frozenset(pictures_of(rows)) if any(row.images for row in some) else frozenset()
    if (place / "table.json").is_file():
        return np.asarray(EmbeddingTable(place).keys)
    return frozenset(map(_full, files_below(place) if place.is_dir() else [place]))


def _full(file: Path) -> str:
    folder, name = os.path.split(file)
    return os.path.join(_real(folder), name)


@cache
def _real(folder: str) -> str:
    """Links followed, once a folder."""
    return os.path.realpath(folder)
