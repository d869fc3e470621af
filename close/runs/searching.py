"""What a run finds in its memory for what it is given, in use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from close.data.rows import Modality
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import RecipeError
from close.io.places import place_of
from close.model.configuration import CloseConfig
from close.model.modeling import CloseModel
from close.model.sets import Sets
from close.retrieval.finder import Finder, open_finder, settings_in
from close.retrieval.memory import Memory
from close.vectors.open import check_encoder

__all__ = ["MemorySearch", "describe_memory", "embed_memory", "has_memory"]

Open = Callable[[], ContrastiveEncoder]
INSIDE = "memory"
"""Where a run keeps a memory of its own."""


class MemorySearch:
    """A run's memory, opened when it is first searched; nothing to a run that was trained without `retrieve`.

    Args:
        model: the run's. run: its folder. encoder: gives the run's encoder.
    """

    def __init__(self, model: CloseModel, run: Path, encoder: Open) -> None:
        self.retrieve, self.run, self.encoder = model.config.retrieve, run, encoder
        if self.retrieve is not None:
            settings_in(self.retrieve, run)
        self.settings: dict[str, Any] = {}
        self.given: Path | None = None
        self._finder: Finder | None = None
        self._searches: ContrastiveEncoder | None = None

    def __bool__(self) -> bool:
        return self.retrieve is not None

    def use(self, memory: str | Path) -> None:
        """Search this memory from now on: rows, an embedding table of texts, or the memory in a run (`RUN/memory`).

        Raises:
            RecipeError: the run searches none, or this one has fewer texts than it finds, or no words where it needs them.
            MissingError: there is none. MismatchError: it is of another encoder.
        """
        if self.retrieve is None:
            raise RecipeError(f"{self.run} searches no memory: it was trained without 'retrieve'")
        if not os.fspath(memory):
            raise RecipeError("memory is an empty text: expected the name of a file or a folder")
        self.given, self._finder = Path(os.path.abspath(memory)), None
        _ = self.finder

    @property
    def finder(self) -> Finder:
        """What searches it."""
        if self._finder is None:
            assert self.retrieve is not None
            self._finder = open_finder(self.retrieve, self.given, self.encoder, self.run, search=self.search)
        return self._finder

    @finder.setter
    def finder(self, finder: Finder) -> None:
        self._finder = finder

    @property
    def search(self) -> Open | None:
        """What gives the encoder that it is searched in; None where that is the run's own.

        Raises (when it is called):
            MismatchError: its weights are others than in training.
        """
        about = self.retrieve or {}
        if not about.get("encoder"):
            return None

        def encoder() -> ContrastiveEncoder:
            if self._searches is None:
                own = load_encoder(place_of(about["encoder"], self.run), **self.settings)
                what, known = f"the search of {self.run}", about.get("encoder_fingerprint")
                check_encoder(what, about["encoder"], known, "retrieve.encoder", own.name, own.fingerprint)
                self._searches = own
            return self._searches

        return encoder

    def put_into(self, config: CloseConfig, folder: Path) -> None:
        """Embed the memory in another run's folder; see `embed_memory`."""
        embed_memory(self.finder.memory, config, folder, self.encoder, self.search)

    def open(self) -> None:
        """Open it now, so that what can't be searched is told; nothing to a run that searches none."""
        if self:
            _ = self.finder

    @property
    def setting(self) -> dict[str, str]:
        """What decides what is found: which memory."""
        return {"memory": self.finder.memory.sha256} if self else {}

    def found(
        self, items: Sets, contexts: Sequence[str], modality: Modality, search: Tensor | None = None
    ) -> tuple[Sets, list[str]]:
        """Items with their neighbours, and contexts with the words that were found.

        Args:
            modality: what the items are. search: (B, D) unit rows of them in the encoder that is searched in, if not the run's.
        Raises:
            RecipeError: that is needed and not there.
        """
        if not self:
            return items, list(contexts)
        finder = self.finder
        if finder.search_encoder and search is None:
            raise RecipeError(
                f"{self.run} searches its memory in encoder {finder.search_encoder!r}, and vectors of its own encoder can't be "
                "searched with there; give it the images themselves"
            )
        batch = finder(items.main if search is None else search, modality)
        said = [batch.context(row, context) for row, context in enumerate(contexts)]
        if batch.vectors is None:
            return items, said
        return items.with_neighbours(batch.vectors.to(items.embeds.device)), said


def embed_memory(memory: Memory, config: CloseConfig, folder: Path, encoder: Open, search: Open | None) -> None:
    """Put a memory into a run's folder, and name it in its configuration.

    Args:
        config: of the run's model; still to be saved. encoder: gives the run's encoder. search: gives the one to search in, if
            that is another.
    """
    place = folder / INSIDE
    if place.is_dir():  # the memory that another takes the place of, or of a training that was killed behind this
        shutil.rmtree(place)
    memory.save(place)
    saved = Memory.open(place, encoder, search=search)
    own = {"reference": INSIDE, "sha256": saved.sha256, "tables": saved.plans, "texts_in_it": len(saved)}
    config.retrieve = dict(config.retrieve or {}) | {"memory": own}


def has_memory(config: CloseConfig) -> bool:
    """Whether a run's memory lies in its own folder."""
    return config.retrieve is not None and settings_in(config.retrieve, "")[1].get("reference") == INSIDE


def describe_memory(config: CloseConfig, run: Path) -> dict[str, Any]:
    """What `close info` says of what a run finds; nothing where it finds none."""
    if config.retrieve is None:
        return {}
    _, about = settings_in(config.retrieve, run)
    if "reference" not in about:
        return {"retrieve": config.retrieve, "memory_is": {"gone": "give one with --memory"}}
    place = run / about["reference"]
    where = "in this folder" if has_memory(config) else "by reference"
    there = {} if place.exists() else {"gone": "give one with --memory"}
    return {"retrieve": config.retrieve, "memory_is": {"where": where, "path": os.path.normpath(place), **there}}
