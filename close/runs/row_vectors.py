"""The vectors of rows: of several sources or images of one row their mean, or all of them."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray

from close.data.rows import Modality, Row, RowFile, evenly, named_images
from close.errors import DataError, MismatchError
from close.io.keys import file_key
from close.io.parts import file_of
from close.model.configuration import CloseConfig, Several
from close.model.sets import Sets, padded_sets
from close.tasks import Task
from close.vectors.open import check_rows
from close.vectors.table import EmbeddingTable

__all__ = [
    "ItemVectors",
    "embeddings_of",
    "given_table",
    "image_names",
    "image_vectors",
    "mean_vectors",
    "tell_other_rows",
]

_log = logging.getLogger(__name__)
LOOKED = 1000
"""Rows that are looked at for whether a table is of them."""


class ItemVectors:
    """The unit vectors of rows, by position.

    Args:
        table: that holds them. places: of each row, where they are among the table's distinct vectors.
        several: of more than one, "mean" is the unit mean of the raw vectors (the paper's VQA), "set" all of them, whose own mean
            is that of the unit ones (`Sets.main`): a set has no raw ones in use.
    Attributes:
        most: the most vectors that a row gives.
    """

    def __init__(self, table: EmbeddingTable, places: Iterable[Sequence[int]], several: Several = "mean") -> None:
        starts, vectors = array("q", [0]), array("q")
        for own in places:
            vectors.extend(own)
            starts.append(len(vectors))
        self.table, self.several = table, several
        self.starts = np.frombuffer(starts, dtype=np.int64)
        self.vectors = np.frombuffer(vectors, dtype=np.int64)
        self.most = int(np.diff(self.starts).max(initial=1)) if several == "set" else 1

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """(D,), or (k, D) of a set."""
        places = self.vectors[self.starts[row] : self.starts[row + 1]]
        if len(places) == 1:
            return np.array(self.table.vectors[places[0]])
        if self.several == "set":
            return np.array(self.table.vectors[places])
        return self._mean(places)

    def batch(self, rows: Sequence[int]) -> Sets:
        """Of these rows, together."""
        return Sets(*padded_sets([torch.from_numpy(self[row]) for row in rows]))

    def main(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """(B, D) unit rows: one each, the mean of several."""
        index = np.asarray(rows, dtype=np.int64)
        firsts, counts = self.starts[:-1][index], np.diff(self.starts)[index]
        vectors = np.array(self.table.vectors[self.vectors[firsts]])
        for place in np.flatnonzero(counts > 1):
            vectors[place] = self._mean(self.vectors[firsts[place] : firsts[place] + counts[place]])
        return vectors

    def _mean(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        mean = (self.table.vectors[places] if self.several == "set" else self.table.raw(places)).mean(axis=0)
        unit: NDArray[np.float32] = mean / np.linalg.norm(mean)
        return unit


def embeddings_of(rows: RowFile, task: Task, table: EmbeddingTable, several: Several = "mean") -> ItemVectors:
    """Of each row: of its files in an image table, of its source texts in a text table.

    Raises:
        DataError: a row's text or file is not in the table.
    """
    if table.modality == "image":
        return image_vectors(rows, table, several, f"{rows.path}: ")
    return ItemVectors(table, _located(rows, task, table), several)


def _located(rows: RowFile, task: Task, table: EmbeddingTable) -> Iterator[Sequence[int]]:
    for row in rows:
        sources = task.source(row)
        if not sources:
            raise DataError(f"{rows.path}: row {row.id!r} has no 'source' text")
        yield table.locate(sources).tolist()


def image_vectors(
    rows: Iterable[Row], table: EmbeddingTable, several: Several = "mean", where: str = ""
) -> ItemVectors:
    """Of each row: of its files, by the table's ids.

    Args:
        where: what a message begins with.
    Raises:
        DataError: a row's file is not in the table.
    """
    place = {name: int(vector) for name, vector in zip(table.ids, table.index, strict=True)}

    def found() -> Iterator[Sequence[int]]:
        for row in rows:
            names = image_names(row)
            if not all(name in place for name in names):
                raise DataError(f"{where}row {row.id!r} has no vector in {table.path} (no image, or unreadable)")
            yield [place[name] for name in names]

    return ItemVectors(table, found(), several)


def image_names(row: Row) -> list[str]:
    """What an image table calls a row's files; of a row that names none, its id."""
    return [name for name, _ in named_images(row)] or [row.id]


def mean_vectors(rows: Sequence[Row], table: EmbeddingTable) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Ids of rows to (N, D) unit vectors of their images.

    The function raises DataError for an id that is not of these rows.
    """
    place, found = {row.id: index for index, row in enumerate(rows)}, list[ItemVectors]()

    def vectors(ids: Sequence[str]) -> NDArray[np.float32]:
        if absent := [name for name in ids if name not in place]:
            raise DataError(
                f"row {absent[0]!r} has no vector, its image could not be read: ask for those whose prediction is not blank"
            )
        if not found:
            found.append(image_vectors(rows, table))
        return found[0].main([place[name] for name in ids])

    return vectors


def given_table(
    vectors: str | Path | EmbeddingTable, modality: Modality, config: CloseConfig, rows: RowFile
) -> EmbeddingTable:
    """A table that stands in for an encoder, whose rows are found by a data file's ids (of texts, by the texts).

    Args:
        vectors: a table, or its folder. modality: what is to be fed. config: of the run's model.
        rows: whose ids they are; where the table was made for a file with another content, that is told.
    Raises:
        MissingError: there is none. MismatchError: it is of the other modality, or of another encoder or width than the run's.
    """
    table = vectors if isinstance(vectors, EmbeddingTable) else EmbeddingTable(vectors)
    if table.modality != modality:
        raise MismatchError(f"{table.path} holds {table.modality} embeddings, and what is fed is modality {modality!r}")
    theirs = {"name": config.encoder, "fingerprint": config.encoder_fingerprint, "embed_dim": config.embed_dim}
    check_rows(f"{table.path}", table, SimpleNamespace(**theirs), "the run")
    tell_other_rows(table, rows)
    return table


def tell_other_rows(table: EmbeddingTable, rows: RowFile) -> None:
    """Warn where a table of images, whose vectors are found by the rows' ids, was made for other rows than these, or may be."""
    if table.modality == "image" and (perhaps := _of_others(table, rows)) is not None:
        _log.warning(
            "%s was made for other rows than %s%s: vectors are found by rows' ids, and rows without one are numbered",
            table.path, rows.path, perhaps,
        )  # fmt: skip


def _of_others(table: EmbeddingTable, rows: RowFile) -> str | None:
    """What else it may be, of a table that is not of these rows: given ones say of which they are, others of which files."""
    if "sha256" in table.info:  # of `EmbeddingTable.from_numpy`
        return "" if table.info.get("rows_sum", rows.sha256) != rows.sha256 else None
    looked = {place: rows[place] for place in evenly(len(rows), LOOKED)}
    first = {int(row.id) - place if row.id.isdecimal() else None for place, row in looked.items()}
    if None in first or len(first) > 1:  # ids of their own, and files may have moved
        return None
    files = {name: file for row in looked.values() for name, file in named_images(row)}
    keys = {name: file_key(file) for name, file in files.items()}
    own = {name: table.keys[vector] for name, vector in zip(table.ids, table.index, strict=True) if name in keys}
    known = np.isin(np.array([*keys.values()], np.uint64), np.asarray(table.keys))
    if any(own.get(name, key) != key for (name, key), there in zip(keys.items(), known, strict=True) if there):
        return ""
    if not known.any() and any(file_of(file).exists() for file in files.values()):
        return ", or their pictures have been copied or changed since"
    return None
