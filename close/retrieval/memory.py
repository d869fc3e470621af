"""A memory: distinct texts, their vectors in the encoder that is searched and in the captioner's, and their words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.data.rows import RowFile
from close.data.shards import is_rows, open_rows
from close.encoders import ContrastiveEncoder
from close.errors import DataError, MismatchError, MissingError, RecipeError
from close.evaluation.metrics.words import words
from close.io.files import whole
from close.io.keys import text_key
from close.io.progress import progress
from close.vectors.build import Sources
from close.vectors.cache import cached_table
from close.vectors.checked import Ints
from close.vectors.open import check_rows
from close.vectors.table import EmbeddingTable

__all__ = ["Memory", "memory_place", "memory_rows", "spoken"]

_TABLE, _SEARCH, _ROWS = "table", "search", "rows.jsonl"
_RUN, _INSIDE = "run.json", "memory"
Open = Callable[[], ContrastiveEncoder]


def spoken(text: str) -> int:
    """A hash of a text's words: texts that differ in case, spaces or stops alone have the same."""
    return text_key(" ".join(words(text)) or text)


class Memory:
    """Distinct texts, numbered from 0, with their vectors.

    Args:
        table: their vectors in the captioner's encoder. search: in the encoder that is searched in, if that is another.
        rows: where their words are; without it, they have none.
    Attributes:
        path: what it was made of. sha256: of that.
    """

    def __init__(
        self, table: EmbeddingTable, rows: RowFile | None = None, search: EmbeddingTable | None = None
    ) -> None:
        self.table, self.rows, self.search = table, rows, search or table
        if not np.array_equal(self.search.keys, table.keys):
            raise MismatchError(f"{self.search.path} and {table.path} are not of the same texts")
        self.path = rows.path if rows else table.path
        self.sha256 = rows.sha256 if rows else str(table.info.get("plan"))

    @staticmethod
    def may_be(table: EmbeddingTable) -> bool:
        """Whether the texts of a table are distinct, as those of a memory are: vectors that were given are a row each."""
        return len(np.unique(table.keys)) == len(table.keys)

    @classmethod
    def open(
        cls,
        place: str | Path | RowFile,
        encoder: Open,
        *,
        texts: Path | None = None,
        columns: Mapping[str, str | int] | None = None,
        search: Open | None = None,
    ) -> Memory:
        """A memory from rows, an embedding table, or a folder that `save` made.

        Args:
            place: rows (embedded on first use, and kept), a table of texts, or such a folder, or a run that holds one.
            encoder: gives the captioner's.
            texts: the rows that a table was made of; without them it has no words.
            columns: of the rows, or of `texts`, as `open_rows` takes them.
            search: gives the encoder to search in, if that is another.
        Raises:
            MissingError, DataError: there is nothing, or it is damaged. MismatchError: it is of another encoder, or of images.
            RecipeError: a table can't be searched in another encoder; `texts` beside rows.
        """
        if isinstance(place, RowFile):
            return cls._of_rows(place, encoder, texts, search)
        folder = memory_place(place)
        if (folder / _TABLE).is_dir():
            if texts is not None:
                raise RecipeError(f"memory {folder}: it holds its words; texts are for a table")
            return cls._of_folder(folder, encoder, search)
        if (rows := memory_rows(folder, columns)) is not None:
            return cls._of_rows(rows, encoder, texts, search)
        if search:
            raise RecipeError(f"memory {folder}: a table is of one encoder; give rows to search in another one")
        memory = cls(_checked(EmbeddingTable(folder), encoder()), open_rows(texts, columns) if texts else None)
        memory.path, memory.sha256 = memory.table.path, str(memory.table.info.get("plan"))
        return memory

    @classmethod
    def _of_rows(cls, rows: RowFile, encoder: Open, texts: Path | None, search: Open | None) -> Memory:
        if texts is not None:
            raise RecipeError(f"memory {rows.path}: rows have their words; texts are for a table")
        return cls(_embedded(rows, encoder()), rows, _embedded(rows, search()) if search else None)

    @classmethod
    def _of_folder(cls, folder: Path, encoder: Open, search: Open | None) -> Memory:
        rows = open_rows(folder / _ROWS) if (folder / _ROWS).is_file() else None
        if not (folder / _SEARCH).is_dir():
            if search:  # it was made for another run
                return cls.open(rows or folder / _TABLE, encoder, search=search)
            return cls(_checked(EmbeddingTable(folder / _TABLE), encoder()), rows)
        if not search:
            return cls(_checked(EmbeddingTable(folder / _TABLE), encoder()), rows)
        other = _checked(EmbeddingTable(folder / _SEARCH), search())
        return cls(_checked(EmbeddingTable(folder / _TABLE), encoder()), rows, other)

    def save(self, folder: str | Path) -> None:
        """Put all of it into a folder that `open` takes: the same neighbours come out of it, without what it was made of.

        The rows keep id, source and group.
        """
        with whole(folder) as partial:
            partial.mkdir()
            shutil.copytree(self.table.path, partial / _TABLE)
            if self.search is not self.table:
                shutil.copytree(self.search.path, partial / _SEARCH)
            if self.rows:
                with (partial / _ROWS).open("w", encoding="utf-8") as file:
                    for row in self.rows:
                        about = {"id": row.id, "source": list(row.source)} | ({"group": row.group} if row.group else {})
                        if row.source:
                            file.write(json.dumps(about, ensure_ascii=False) + "\n")

    def __len__(self) -> int:
        return len(self.table.keys)

    @property
    def plans(self) -> list[str]:
        """Of the tables: hashes of what was embedded, and by what."""
        tables = [self.table] if self.search is self.table else [self.table, self.search]
        return [str(table.info.get("plan")) for table in tables]

    @property
    def vectors(self) -> Any:
        """(M, D) unit rows in the captioner's encoder, by slices or numbers."""
        return self.table.vectors

    def raw(self, places: Any) -> NDArray[np.float32]:
        """Vectors in the captioner's encoder, of the length that it gave them."""
        return self.table.raw(places)

    @cached_property
    def _sources(self) -> Sources:
        if self.rows is None:
            raise RecipeError(
                f"memory {self.path}: a table has vectors alone; its words are in the rows it was made of: give those, or in a "
                "recipe both (texts)"
            )
        return Sources(self.rows)

    @cached_property
    def _positions(self) -> Ints:
        """Of each text, the first source that says it."""
        said = np.fromiter((key for _, key in self._sources.named()), np.uint64)
        keys, first = np.unique(said, return_index=True)
        place = np.searchsorted(keys, self.table.keys).clip(max=len(keys) - 1)
        if (keys[place] != self.table.keys).any():
            raise MismatchError(
                f"{self.path} is not what the table {self.table.path} was made of: texts of it are missing"
            )
        return first[place]

    def texts(self, places: Sequence[int] | Ints) -> list[str]:
        """The words at some places.

        Raises:
            RecipeError: it has none. MismatchError: they are not of the rows that were given.
        """
        return self._sources.texts(self._positions[np.asarray(places, np.int64)])

    @cached_property
    def _spoken(self) -> tuple[NDArray[np.uint64], Ints]:
        """What is said in each text, sorted, and the texts in that order; of a table without words, the very texts."""
        keys = self.table.keys
        if self.rows is not None:
            keys = np.empty(len(self), np.uint64)
            for start in range(0, len(self), 4096):
                some = self.texts(np.arange(start, min(start + 4096, len(self))))
                keys[start : start + len(some)] = [spoken(text) for text in some]
        order = np.argsort(keys, kind="stable")
        return np.asarray(keys)[order], order

    def alike(self, texts: Iterable[str]) -> list[int]:
        """The places of what says the same as one of these texts."""
        keys, order = self._spoken
        said = spoken if self.rows is not None else text_key
        wanted = np.unique(np.fromiter(map(said, texts), np.uint64))
        bounds = zip(np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, side="right"), strict=True)
        return [int(place) for first, last in bounds for place in order[first:last]]

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The texts of each group.

        Raises:
            RecipeError: it has no words.
        """
        found: dict[str, list[str]] = {}
        for row in self._sources.rows:
            if row.group is not None:
                found.setdefault(row.group, []).extend(row.source)
        return found


def memory_place(place: str | Path) -> Path:
    """Where a memory lies: what is given, or in a run the memory that it holds.

    Raises:
        MissingError: nothing is there, or nothing that can be one. RecipeError: a run that holds none.
    """
    given = Path(place)
    if not given.exists():
        raise MissingError(f"{given}: no such file")
    if (given / _RUN).is_file():
        if not (given / _INSIDE / _TABLE).is_dir():
            raise RecipeError(
                f"memory {given}: a run that holds none; give the rows, or the table of texts, that are meant"
            )
        return given / _INSIDE
    if not is_rows(given) and not any((given / name).exists() for name in ("table.json", _TABLE)):
        raise MissingError(
            f"memory {given}: neither rows (.jsonl, .txt, .csv …) nor an embedding table of texts (`close embed text` makes one)"
        )
    return given


def memory_rows(place: Path, columns: Mapping[str, str | int] | None) -> RowFile | None:
    """The rows of a memory that is a data file or a folder of these; None of a table, and of what `Memory.save` made.

    Args:
        place: as `memory_place` gives it. columns: as `open_rows` takes them.
    Raises:
        DataError: they are not well formed.
    """
    return open_rows(place, columns) if is_rows(place) and not (place / _TABLE).is_dir() else None


def _embedded(rows: RowFile, encoder: ContrastiveEncoder) -> EmbeddingTable:
    with progress(f"embedding {rows.path.name}") as update:
        return cached_table(rows, encoder, "text", progress=update)


def _checked(table: EmbeddingTable, encoder: ContrastiveEncoder) -> EmbeddingTable:
    if table.modality != "text":
        raise MismatchError(f"memory {table.path} holds {table.modality} embeddings; a memory is of texts")
    check_rows(f"memory {table.path}", table, encoder, "the search")
    if not Memory.may_be(table):
        raise DataError(f"memory {table.path}: texts in it come twice; make it with `close embed`")
    return table
