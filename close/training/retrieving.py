"""The memory of a training, and what its rows find in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from close.adapters.resolve import is_load
from close.adapters.specs import split_spec, stages_of
from close.data.rows import RowFile
from close.data.shards import is_rows, open_rows
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import RecipeError
from close.io.progress import progress
from close.model.configuration import CloseConfig
from close.retrieval.finder import Finder, check_memory
from close.retrieval.memory import Memory, memory_place
from close.retrieval.settings import Retrieval
from close.retrieval.training import Found, find
from close.runs.recipe import Recipe
from close.runs.recipe_file import portable
from close.runs.row_vectors import embeddings_of
from close.runs.searching import embed_memory
from close.tasks import Task
from close.vectors.cache import cached_table
from close.vectors.lists import check_lists
from close.vectors.table import EmbeddingTable

__all__ = ["Retrieving", "check_retrieve", "retrieving"]


@dataclass(frozen=True)
class Retrieving:
    """A recipe's memory, open.

    Attributes:
        retrieval: how it is searched. encoder: gives the captioner's. search: gives the one that it is searched in, where that is
            another.
    """

    recipe: Recipe
    memory: Memory
    retrieval: Retrieval
    encoder: Callable[[], ContrastiveEncoder]
    search: Callable[[], ContrastiveEncoder] | None

    def found(self, rows: RowFile, task: Task, table: EmbeddingTable, part: int) -> Found:
        """What the rows of a file find, by their vectors in `table` or in the encoder that is searched in.

        Raises:
            DataError: a row finds fewer than k.
        """
        several = self.recipe.several
        if self.search is not None and self.retrieval.searches:
            several = "mean"  # in use too: of what is searched with alone there are raw vectors
            with progress(f"embedding {rows.path.name}") as update:
                table = cached_table(rows, self.search(), self.recipe.train_on, progress=update)
        queries, about = embeddings_of(rows, task, table, several), f"{table.info.get('plan')}"
        about += " set" if several == "set" else ""
        return find(self.memory, queries, about, self.retrieval, rows, task, seed=self.recipe.seed, part=part)

    @property
    def finder(self) -> Finder:
        """What validation finds with."""
        return Finder(self.memory, self.retrieval)

    def put_into(self, config: CloseConfig, folder: Path) -> None:
        """Put the memory into the run's folder; see `embed_memory`."""
        embed_memory(self.memory, config, folder, self.encoder, self.search)

    @property
    def sums(self) -> dict[str, str]:
        """What the memory was made of, and its hash."""
        return {str(self.memory.path): self.memory.sha256}

    def about(self, folder: Path) -> dict[str, Any]:
        """What the model's configuration says of it: how it is used, and which memory that was, from the run in `folder`."""
        section = self.recipe.retrieve
        texts = {"texts": str(section.texts)} if section and section.texts else {}
        said = (self.recipe.retrieval or {}) | {"memory": str(self.memory.path), **texts}
        found = portable({"retrieve": said}, folder)["retrieve"]
        kept = {"reference": found.pop("memory"), "sha256": self.memory.sha256, "texts_in_it": len(self.memory)}
        kept |= {key: found.pop(key) for key in texts}
        if columns := _columns_of(self.recipe):
            kept["columns"] = columns
        fingerprint = self.search().fingerprint if self.search else None
        return found | {"encoder_fingerprint": fingerprint, "memory": kept}


def check_retrieve(recipe: Recipe) -> None:
    """What can be known of a memory before texts are embedded.

    Raises:
        CloseError: there is none; it has too few rows, or no words.
    """
    section = recipe.retrieve
    if section is None:
        return
    retrieval = Retrieval.of(recipe.retrieval or {})
    if retrieval.index == "lists":
        check_lists()
    stages = [
        split_spec(stage)
        for stage in stages_of(recipe.adapter)
        if isinstance(stage, (str, dict)) and not is_load(stage)
    ]
    said = {key for name, options in stages if name == "gaussian" for key in ("std", "var") if key in (options or {})}
    if retrieval.raw and retrieval.noisy and said:
        raise RecipeError(
            f"retrieve: noise is put on unit vectors, before what is found gets its length back, and {said.pop()} would not "
            "be on the scale of raw ones: with raw and noisy say the cosine that it leaves"
        )
    section.check_there()
    for place in (section.memory, section.texts):
        if place is None:
            continue
        if place == section.memory:
            place = memory_place(place)
        if is_rows(place):
            rows = open_rows(place, recipe.columns_of(place))
            if sum(len(row.source) for row in rows) <= retrieval.most:
                raise RecipeError(
                    f"retrieve: {place} has {len(rows)} rows, and {retrieval.asked}; it needs more texts than that"
                )
        elif place == section.texts:
            raise RecipeError(f"retrieve: texts are the rows that a table was made of, and {place} are none")


def _columns_of(recipe: Recipe) -> dict[str, Any] | None:
    """What the recipe says of the columns of the memory's rows: those that a table was made of, or the memory itself."""
    section = recipe.retrieve
    place = section and (section.texts or section.memory)
    return recipe.columns_of(place) if place else recipe.data.columns


def retrieving(
    recipe: Recipe,
    files: Sequence[RowFile],
    tables: Sequence[EmbeddingTable],
    encoder: Callable[[], ContrastiveEncoder],
) -> Retrieving | None:
    """Open what a recipe retrieves from; None where it retrieves nothing.

    Args:
        files, tables: the rows of each part, and their vectors. encoder: gives the captioner's.
    Raises:
        CloseError: there is no such memory; it is of another encoder, too small, or has no words.
    """
    section = recipe.retrieve
    if section is None:
        return None
    reference = section.encoder
    search = cache(lambda: load_encoder(reference)) if reference is not None else None
    own = section.memory is None and recipe.train_on == "text" and search is None
    if own and Memory.may_be(tables[0]):
        memory = Memory(tables[0], files[0])
    else:
        place, columns = section.memory or files[0], _columns_of(recipe)
        memory = Memory.open(place, encoder, texts=section.texts, columns=columns, search=search)
    retrieval = Retrieval.of(recipe.retrieval or {})
    check_memory(memory, retrieval)
    return Retrieving(recipe, memory, retrieval, encoder, search)
