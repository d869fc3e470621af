"""A memory in use: searched by the image, or whatever a run is given."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from close.data.rows import Modality, RowFile
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import DataError, MismatchError, MissingError, RecipeError, shown
from close.fast.precision import without_autocast
from close.io.places import place_of
from close.retrieval.content import common_words, word_finder
from close.retrieval.memory import Memory, memory_place, memory_rows
from close.retrieval.settings import Retrieval
from close.vectors.neighbours import nearest

__all__ = ["Finder", "FoundBatch", "check_memory", "open_finder", "settings_in"]

SAME, ALMOST = 1 - 1e-4, 1 - 1e-3
"""The cosine from which on a text is the one that was asked with: of a memory in fp32, which bf16 may ask, and of others."""
SPARE = 8


@dataclass(frozen=True)
class FoundBatch:
    """What was found for a batch.

    Attributes:
        vectors: (B, k, D), best first; None where what is found comes into the prompt alone.
        places: (B, n) of the memory. texts: what is said of each in its prompt; nothing for vectors.
    """

    vectors: Tensor | None
    places: np.ndarray
    texts: Sequence[Sequence[str]]
    retrieval: Retrieval

    def context(self, row: int, context: str) -> str:
        """The context of one of the batch, with what was found behind it."""
        return self.retrieval.told(list(self.texts[row]), context) if self.retrieval.prompted else context


class Finder:
    """`finder(queries, modality)` finds the k nearest texts of each.

    Attributes:
        search_encoder: reference of the encoder that it searches in, None for the captioner's own.
    """

    def __init__(self, memory: Memory, retrieval: Retrieval) -> None:
        self.memory, self.retrieval = memory, retrieval

    @property
    def search_encoder(self) -> str | None:
        """See the class."""
        return self.retrieval.encoder

    @cached_property
    def _words(self) -> Callable[[Sequence[str]], list[list[str]]]:
        return word_finder(self.retrieval.language, attributes=self.retrieval.attributes)

    def __call__(self, queries: Tensor, modality: Modality) -> FoundBatch:
        """The nearest texts, `retrieval.most` of each.

        Args:
            queries: (B, D) unit rows of the encoder that it searches in.
            modality: what they are vectors of; a text does not find itself.
        """
        x = queries.detach().float().cpu()
        most = self.retrieval.most
        with without_autocast(x.device):  # validation searches as a run in use does
            places, cosines = nearest(x, self.memory.search.vectors, most + SPARE * (modality == "text"))
        if (places < 0).any():
            raise DataError(f"memory {self.memory.path} can't be searched: a vector to search with is not finite")
        if modality == "text":
            same = SAME if self.memory.search.info.get("precision", "fp32") == "fp32" else ALMOST
            last = np.argsort(cosines > same, axis=1, kind="stable")  # those that are the text itself
            places = np.take_along_axis(places, last[:, :most], axis=1)
        vectors = None
        if "vectors" in self.retrieval.uses:
            take = self.memory.raw if self.retrieval.raw else self.memory.vectors.__getitem__
            vectors = torch.from_numpy(np.array(take(places[:, : self.retrieval.k])))
        return FoundBatch(vectors, places, [self._said(row) for row in places], self.retrieval)

    def _said(self, places: np.ndarray) -> list[str]:
        if not self.retrieval.prompted:
            return []
        if self.retrieval.prompted == "captions":
            return self.memory.texts(places[: self.retrieval.k])
        among = self.retrieval.among or self.retrieval.k
        texts = self.memory.texts(places[:among])
        at_least = self.retrieval.at_least or (among + 1) // 2
        return common_words(self._words(texts), at_least, self.retrieval.language)


def check_memory(memory: Memory, retrieval: Retrieval) -> None:
    """Refuse a memory that can't give what is asked of it.

    Raises:
        RecipeError: fewer texts than k and the row's own, or no words where they are needed.
    """
    if len(memory) <= retrieval.most:
        raise RecipeError(
            f"memory {memory.path} has {len(memory)} different texts, and {retrieval.asked}; it needs more than that"
        )
    if retrieval.prompted:
        memory.texts([0])


def open_finder(
    retrieve: Mapping[str, Any],
    memory: str | Path | RowFile | Memory | None,
    encoder: Callable[[], ContrastiveEncoder],
    where: str | Path,
    *,
    search: Callable[[], ContrastiveEncoder] | None = None,
) -> Finder:
    """What a run finds with.

    Args:
        retrieve: what the run's configuration says. memory: another one than it was trained with.
        encoder: gives the run's encoder. where: the run's folder. search: gives the encoder to search in, where that is another.
    Raises:
        MissingError: the memory is gone. MismatchError: it has changed since the training, or is of another encoder.
        RecipeError: it has fewer texts than are to be found, or no words.
    """
    retrieval, own = settings_in(retrieve, where)
    if retrieval.language.endswith(".toml"):
        retrieval = retrieval.model_copy(update={"language": os.path.join(where, retrieval.language)})
    reference = None if retrieval.encoder is None else place_of(retrieval.encoder, where)
    retrieval = retrieval.model_copy(update={"encoder": reference})
    if reference is not None and search is None:
        search = lambda: load_encoder(reference)  # noqa: E731
    if isinstance(memory, Memory):
        found = memory
    elif memory is not None:
        found = Memory.open(memory, encoder, search=search)
    else:
        found = _own_memory(own, where, encoder, search)
    check_memory(found, retrieval)
    return Finder(found, retrieval)


def settings_in(retrieve: Mapping[str, Any], where: str | Path) -> tuple[Retrieval, Mapping[str, Any]]:
    """What a run's configuration says of its search, and of the memory that it was trained with.

    Args:
        where: the run's folder.
    Raises:
        RecipeError: a value is none that a run has.
    """
    own = retrieve.get("memory")
    own = {} if own is None else own
    fits = isinstance(own, Mapping) and all(isinstance(own.get(key, ""), str) for key in ("reference", "texts"))
    columns = own.get("columns") if fits else None
    plain = isinstance(columns, dict) and all(isinstance(column, (str, int)) for column in columns.values())
    if not fits or not (columns is None or plain):
        raise RecipeError(f"{where}: retrieve: memory can't be {shown(own)}")
    return Retrieval.of(retrieve), own


def _own_memory(
    own: Mapping[str, Any],
    where: str | Path,
    encoder: Callable[[], ContrastiveEncoder],
    search: Callable[[], ContrastiveEncoder] | None,
) -> Memory:
    """The memory that a run was trained with."""
    there = own.get("reference")
    if there is None:
        raise MissingError(f"{where} does not say which memory it was trained with; give one (--memory)")
    place = Path(os.path.normpath(Path(where) / there))
    if not place.exists():
        raise MissingError(f"{place}: no such file, the memory that {where} was trained with; give one (--memory)")
    columns = own.get("columns")
    if (rows := memory_rows(memory_place(place), columns)) is not None:  # looked at before anything is embedded
        _refuse_changed(rows.path, own.get("sha256"), rows.sha256, where)
    texts = Path(os.path.normpath(Path(where) / own["texts"])) if own.get("texts") else None
    found = Memory.open(rows or place, encoder, texts=texts, columns=columns, search=search)
    _refuse_changed(found.path, own.get("sha256"), found.sha256, where)
    _refuse_changed(found.path, own.get("tables"), found.plans, where)
    return found


def _refuse_changed(path: Path, then: Any, now: Any, where: str | Path) -> None:
    if then in (None, now):
        return
    if Path(where) in path.parents:
        raise MismatchError(
            f"{path} is not what {where} was saved with; copy the run anew, or give a memory (--memory)"
        )
    raise MismatchError(
        f"{path} has changed since {where} was trained; give the memory that is meant (--memory {path})"
    )
