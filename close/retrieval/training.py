"""What training finds in a memory for each row: once, by the row's own vector, noised; kept beside the tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from close.adapters import RowNoise, build_adapter, row_seeds
from close.data.rows import Row, RowFile
from close.errors import DataError
from close.io.files import read_json, waiting, whole, write_json
from close.io.keys import cache_folder
from close.io.progress import progress
from close.retrieval.content import word_finder
from close.retrieval.memory import Memory
from close.retrieval.settings import Retrieval
from close.tasks import Task
from close.vectors.arrays import checksums, map_array
from close.vectors.checked import Ints
from close.vectors.lists import nearest_in_lists
from close.vectors.neighbours import nearest

__all__ = ["Found", "RowQueries", "find"]

FORMAT = 2
_SEARCH, _DROPOUT, _PARTS = -1, -(2**31), 1000
"""Where the noises begin that are not the adapter's: it takes the epochs, from 0. And how far apart those of two epochs are."""


class RowQueries(Protocol):
    """A unit vector of each row, in the encoder that is searched in."""

    def __len__(self) -> int: ...
    def main(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """(B, D)."""


class Noised:
    """The rows' vectors with the search's noise on them, which belongs to (seed, part, row): the same in every epoch.

    Args:
        noise: as the Gaussian adapter takes it; without it, the vectors as they are. part: which of a recipe's tasks it is.
    """

    def __init__(self, queries: RowQueries, dim: int, retrieval: Retrieval, seed: int, part: int) -> None:
        self._queries, self._seed, self._part = queries, seed, part
        self.shape = len(queries), dim
        self._noise = build_adapter({"gaussian": dict(retrieval.noise)}, dim) if retrieval.noise else None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Tensor:
        chosen = range(*rows.indices(len(self)))
        x = torch.from_numpy(self._queries.main(chosen))
        if self._noise is None:
            return x
        noise = RowNoise(row_seeds(self._seed, _SEARCH - self._part, torch.tensor(chosen, dtype=torch.int64)))
        return F.normalize(self._noise.text(x, noise), dim=-1)


class Found:
    """What was found for the rows of a data file.

    Args:
        places: (N, k) of the memory, best first; None for words alone, which are the rows' own.
    """

    def __init__(
        self,
        memory: Memory,
        places: Ints | None,
        retrieval: Retrieval,
        rows: RowFile,
        task: Task,
        *,
        seed: int,
        part: int,
    ) -> None:
        self.memory, self.places, self.retrieval = memory, places, retrieval
        self._rows, self._task, self._seed, self._part = rows, task, seed, part
        is_words = retrieval.prompted == "words"
        self._finder = word_finder(retrieval.language, attributes=retrieval.attributes) if is_words else None
        if is_words and (bare := next((row for row in rows if not _said(row, task)), None)):
            raise DataError(
                f"{rows.path}: row {bare.id!r} has no 'source', and retrieve: into: words trains on the words of a row's own "
                "text; give it one, or take into: captions"
            )

    def vectors(self, row: int) -> NDArray[np.float32] | None:
        """(k, D) vectors of the texts found for a row, in the captioner's encoder; None where they come into the prompt alone."""
        if self.places is None or "vectors" not in self.retrieval.uses:
            return None
        places = self.places[row]
        return self.memory.raw(places) if self.retrieval.raw else np.array(self.memory.vectors[places])

    def context(self, row: int, context: str, epoch: int) -> str:
        """A row's context, with the captions that were found for it, or its own content words, some of them left out."""
        if self._finder is not None:
            texts = self._finder(_said(self._rows[row], self._task))
            own = list(dict.fromkeys(word for text in texts for word in text))
            kept = self._kept(row, epoch, len(own))
            return self.retrieval.told([word for word, stays in zip(own, kept, strict=True) if stays], context)
        if self.places is not None and self.retrieval.prompted == "captions":
            return self.retrieval.told(self.memory.texts(self.places[row]), context)
        return context

    def _kept(self, row: int, epoch: int, count: int) -> list[bool]:
        seeds = row_seeds(self._seed, _DROPOUT - self._part - _PARTS * epoch, torch.tensor([row]))
        return (RowNoise(seeds).uniform(count)[0] >= self.retrieval.dropout).tolist()


def _said(row: Row, task: Task) -> Sequence[str]:
    """What a row says itself: its sources; of one that has images alone, the captions that it teaches, but never answers."""
    return task.source(row) or (task.targets(row) if task.teaches_texts else ())


def find(
    memory: Memory,
    queries: RowQueries,
    about: str,
    retrieval: Retrieval,
    rows: RowFile,
    task: Task,
    *,
    seed: int,
    part: int = 0,
) -> Found:
    """Find the k nearest texts of every row, or take what was found before for the same rows, memory and settings.

    Args:
        queries: the rows' vectors. about: what decides them: a hash of their table. part: which of a recipe's tasks it is.
    Raises:
        DataError: a row finds fewer than k, since the others are its own.
    """
    if not retrieval.searches:
        return Found(memory, None, retrieval, rows, task, seed=seed, part=part)
    facts = [FORMAT, about, rows.sha256, task.name, memory.sha256, memory.search.info.get("plan"), retrieval.k]
    facts += [dict(retrieval.noise or {}), seed, part, retrieval.leave_out]
    facts += [retrieval.index] if retrieval.index != "exact" else []
    if memory.rows is not None and memory.rows.sha256 != memory.sha256:  # of a table: its rows say what is alike
        facts.append(memory.rows.sha256)
    name = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]
    file = cache_folder() / "neighbours" / f"{name}.npy"
    with waiting(Path(f"{file}.lock"), file, file.with_suffix(".json")):
        places = _kept_before(file, (len(queries), retrieval.k))
        if places is None:
            places = _search(memory, queries, retrieval, rows, task, seed, part)
            with whole(file) as partial, partial.open("wb") as out:
                np.save(out, places)
            write_json(file.with_suffix(".json"), checksums(file))
    return Found(memory, places, retrieval, rows, task, seed=seed, part=part)


def _kept_before(file: Path, shape: tuple[int, int]) -> Ints | None:
    """What was found before; nothing where it is damaged, and is to be found again."""
    sums = file.with_suffix(".json")
    if not file.is_file() or not sums.is_file():
        return None
    try:
        places, same = map_array(file, np.int64, 2), read_json(sums) == checksums(file)
    except DataError:
        return None
    return places if same and places.shape == shape else None


def _search(
    memory: Memory, queries: RowQueries, retrieval: Retrieval, rows: RowFile, task: Task, seed: int, part: int
) -> Ints:
    noised = Noised(queries, memory.search.dim, retrieval, seed, part)
    keys, own = memory.search.vectors, _own(memory, rows, task, retrieval)
    with progress(f"searching {memory.path.name}", "rows") as update:
        update(0, len(rows))
        if retrieval.index == "lists":
            places = nearest_in_lists(noised, keys, retrieval.k, without=own, progress=update)
        else:
            places, _ = nearest(noised, keys, retrieval.k, without=own, progress=update)
    lacking = np.flatnonzero(places[:, -1] < 0) if places.shape[1] == retrieval.k else np.zeros(1, np.int64)
    if len(lacking):
        row = int(lacking[0])
        found = int((places[row] >= 0).sum())
        raise DataError(
            f"retrieve: row {rows[row].id!r} of {rows.path} finds {found} texts that are not its own in {memory.path}, and k is "
            f"{retrieval.k}; give a larger memory, or a smaller k"
        )
    return places


def _own(memory: Memory, rows: RowFile, task: Task, retrieval: Retrieval) -> tuple[Ints, Ints]:
    """What each row does not find: all that says the same as its texts, and on request as those of its group."""
    own: list[list[int]] = []
    of_group: dict[str, list[int]] = {}
    for row in rows:
        found = set(memory.alike(_said(row, task)))
        if retrieval.leave_out == "groups" and row.group is not None:
            if row.group not in of_group:
                of_group[row.group] = memory.alike(memory.groups.get(row.group, ()))
            found |= set(of_group[row.group])
        own.append(sorted(found))
    bounds = np.cumsum([0, *map(len, own)], dtype=np.int64)
    return bounds, np.array([place for some in own for place in some], np.int64)
