"""What a run learns from: whether that is still what lies there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from close.data.shards import is_rows, open_rows
from close.io.files import files_below
from close.io.keys import file_key
from close.plugins import changed_plugins
from close.runs.recipe import Recipe
from close.vectors.table import EmbeddingTable

__all__ = ["changed_source", "sum_of", "sums_beside"]


def sums_beside(recipe: Recipe) -> dict[str, str]:
    """What a recipe names beside its rows to learn from: by path, in its order, a SHA-256 of its content.

    That is embedding tables, what adapters are fitted on or loaded from, and the memory.
    """
    return {str(place): sum_of(place, recipe.columns_of(place)) for place in _beside(recipe)}


def changed_source(recipe: Recipe, info: Mapping[str, Any]) -> Path | str | None:
    """The first of what a run was trained on, or with the code of, that is there, and is another one now.

    Args:
        recipe: its own. info: what its `run.json` says: `train`, and `beside`, the sums of `sums_beside` where it has them, and
            what is kept of its plug-ins (`plugins_said`).
    """
    parts, beside = (found if isinstance(found := info.get(key), list) else [] for key in ("train", "beside"))
    for part, about in zip(recipe.parts(), parts, strict=False):
        known = about.get("sha256") if isinstance(about, dict) else None
        if known and part.train.exists() and known != sum_of(part.train, recipe.data.columns):
            return part.train
    named = dict.fromkeys(_beside(recipe))
    for place, known in zip(named, beside, strict=False):
        if place.exists() and known != sum_of(place, recipe.columns_of(place)):
            return place
    return next(iter(changed_plugins(info)), None)


def _beside(recipe: Recipe) -> Iterator[Path]:
    from close.adapters.resolve import files_in  # torch, which who only opens a run's folder need not wait for
    from close.retrieval.memory import memory_place

    yield from map(Path, files_in(recipe.adapter))
    yield from (part.embeddings for part in recipe.parts() if part.embeddings)
    if recipe.retrieve:
        memory, texts = recipe.retrieve.memory, recipe.retrieve.texts
        yield from [memory_place(memory) if memory.exists() else memory] if memory else []
        yield from [texts] if texts else []


def sum_of(place: Path, columns: Mapping[str, str | int] | None = None) -> str:
    """A SHA-256 of rows, of a table, or of all files of something else; read once as long as it is the same."""
    return _sum(place, file_key(place), tuple((columns or {}).items()))


@cache
def _sum(place: Path, key: int, columns: tuple[tuple[str, str | int], ...]) -> str:
    if is_rows(place):
        return open_rows(place, dict(columns) or None).sha256
    if (place / "table.json").is_file():
        return str(EmbeddingTable(place).info.get("plan"))  # of what it was made: the same vectors, wherever made
    found = hashlib.sha256()
    for file in files_below(place) if place.is_dir() else [place]:
        found.update(f"{file.relative_to(place)}\0".encode("utf-8", "surrogateescape"))
        with file.open("rb") as content:
            found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()
