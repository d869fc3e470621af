"""Tables of vectors in the encoder's place: which of them hold what a sweep learns from and looks at, and what none holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from close.data.rows import Modality, RowFile
from close.data.shards import open_rows
from close.errors import CloseError, RecipeError
from close.evaluation.images import select_rows
from close.io.keys import text_key
from close.io.plain import read_plain
from close.runs.recipe import Recipe
from close.runs.row_vectors import image_names
from close.runs.sections import TaskSection
from close.study.arms import Arm, merged
from close.tasks import Task, get_task
from close.vectors.table import EmbeddingTable

__all__ = ["Wanted", "fed_arm", "learnt_vectors", "looked_vectors", "need_encoder", "selection_vectors", "tables_of"]

KINDS: dict[Modality, str] = {"image": "pictures", "text": "captions"}


@dataclass(frozen=True)
class Wanted:
    """Vectors that are learnt from or looked at.

    Attributes:
        name: what for: the input of a score (`close.study.export.MODALITIES`), or of rows to learn from their place and modality.
        told: what they are, for messages. rows: whose they are.
        keys: gives the texts, or what an image table calls the pictures; reads the rows once.
        learnt: whether they are learnt from.
    """

    name: str
    told: str
    rows: RowFile
    modality: Modality
    keys: Callable[[], Sequence[str]]
    learnt: bool = False


def looked_vectors(name: str, rows: RowFile, modality: Modality, task: Task) -> Wanted:
    """What an evaluation of these rows feeds."""
    return Wanted(
        name, f"the {KINDS[modality]} of {rows.path}", rows, modality, cache(partial(_keys, rows, modality, task))
    )


def selection_vectors(rows: RowFile, task: Task) -> Wanted:
    """What stands in for the images of these rows is made of."""

    @cache
    def keys() -> list[str]:
        told = select_rows(rows, task)
        return [text for row in told for text in (*row.source, *(row.references if task.metric == "caption" else ()))]

    what = f"the captions of {rows.path}, its references too"
    return Wanted("selection", what, rows, "text", keys)


def learnt_vectors(arm: Arm, recipe: Recipe) -> Iterator[Wanted]:
    """What an arm learns from, but for what its recipe has a table of."""
    modality = recipe.train_on
    for part in recipe.parts():
        if not _has_table(part, modality):
            rows = open_rows(part.train, recipe.data.columns)
            told = f"the {KINDS[modality]} of {part.train}, which arm {arm.name!r} learns from"
            told += " (--no-image leaves it out)" if modality == "image" else " (data.embeddings names a table of them)"
            task = get_task(part.task)
            keys = cache(partial(_keys, rows, modality, task))
            yield Wanted(_learnt(part, modality), told, rows, modality, keys, learnt=True)


def fed_arm(arm: Arm, recipe: Recipe, tables: Mapping[str, EmbeddingTable]) -> Arm:
    """An arm whose recipe names the tables of what it learns from, where they are other ones than the recipe of all names.

    Args:
        recipe: of the arm. tables: as `tables_of` gives them.
    """
    parts, modality = recipe.parts(), recipe.train_on
    places = [
        part.embeddings if _has_table(part, modality) else _place(tables.get(_learnt(part, modality))) for part in parts
    ]
    if places == [part.embeddings for part in parts]:
        return arm
    named = [None if place is None else str(place) for place in places]
    changes: dict[str, Any] = {"data": {"embeddings": named[0]}}
    if not isinstance(recipe.task, str):
        several = zip(parts, named, strict=True)
        changes = {"task": [part.model_dump(mode="json") | {"embeddings": place} for part, place in several]}
    return replace(arm, changes=merged(arm.changes, changes))


def tables_of(places: Sequence[Path], wanted: Sequence[Wanted]) -> dict[str, EmbeddingTable]:
    """Of each thing that is wanted the table that holds all of it, by its name; of some there may be none.

    Texts are found by themselves. Pictures are found by the ids of rows, which other rows may have too: a table that says of
    which rows it is, as `close embed vectors` makes it, is of no others.

    Raises:
        RecipeError: a table is of nothing that is wanted, or two are of the same pictures. CloseError: a table is none.
    """
    tables, found = [EmbeddingTable(place) for place in places], dict[str, EmbeddingTable]()
    for one in wanted if tables else ():
        whole = [table for table in tables if _may_be(table, one) and _lacking(table, one) is None]
        chosen = [table for table in whole if table.info.get("rows_sum") == one.rows.sha256] or whole
        if one.modality == "image" and len(chosen) > 1:
            both = " and ".join(str(table.path) for table in chosen[:2])
            raise RecipeError(f"--vectors: {both} are both of {one.told}, by their ids; expected one table of each")
        found |= {one.name: chosen[0]} if chosen else {}
    used = {id(table) for table in found.values()}
    if left := [table for table in tables if id(table) not in used]:
        raise RecipeError(f"--vectors {left[0].path}: {_why_left(left[0], found, wanted)}")
    return found


def need_encoder(needs: Sequence[str], reference: str, encoder: Callable[[], Any]) -> None:
    """Load the encoder, if something needs it.

    Raises:
        RecipeError: it can't be loaded; all that needs it is told.
    """
    if needs:
        try:
            encoder()
        except CloseError as error:
            what = f"encoder {reference!r} can't be loaded, and is needed for what no table has (--vectors): "
            raise RecipeError(f"{what}{'; '.join(needs)} ({error})") from None


def _keys(rows: RowFile, modality: Modality, task: Task) -> list[str]:
    return [key for row in rows for key in (image_names(row) if modality == "image" else task.source(row))]


def _learnt(part: TaskSection, modality: Modality) -> str:
    return f"{part.train} {modality}"


def _place(table: EmbeddingTable | None) -> Path | None:
    return None if table is None else table.path


def _has_table(part: TaskSection, modality: Modality) -> bool:
    return part.embeddings is not None and _modality(part.embeddings) == modality


def _modality(place: Path) -> Any:
    return read_plain(place / "table.json").get("modality")


def _may_be(table: EmbeddingTable, one: Wanted) -> bool:
    """Whether its ids, if it holds images, can be those of these rows."""
    of = table.info.get("rows_sum", one.rows.sha256)
    return table.modality == one.modality and (one.modality == "text" or of == one.rows.sha256)


def _lacking(table: EmbeddingTable, one: Wanted) -> str | None:
    """The first text or image without a vector."""
    keys = one.keys()
    if table.modality == "text":
        there = np.isin(np.array([text_key(text) for text in keys], np.uint64), np.asarray(table.keys))
        return None if there.all() else keys[int(np.argmin(there))]
    known = set(table.ids)
    return next((key for key in keys if key not in known), None)


def _why_left(table: EmbeddingTable, found: Mapping[str, EmbeddingTable], wanted: Sequence[Wanted]) -> str:
    """Why a table is of nothing that is wanted, or that others are not of."""
    for one in wanted:
        if one.name in found and _may_be(table, one) and _lacking(table, one) is None:
            other = found[one.name].path
            what = "it is given twice" if other.samefile(table.path) else f"{other} is of {one.told} too"
            return f"{what}; expected one table of each"
    for one in (one for one in wanted if one.name not in found):
        if table.modality == one.modality and table.info.get("rows_sum") == one.rows.sha256:
            return f"it has no vector of {_lacking(table, one)!r}, and it takes all of {one.told}"
    made = ", and it was made for other rows than these" if "rows_sum" in table.info else ""
    there = "; ".join(one.told for one in wanted)
    return f"{table.modality} vectors of nothing that is learnt from or looked at ({there}){made}"
