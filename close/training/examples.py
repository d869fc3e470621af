"""From rows and embedding tables to batches."""

from __future__ import annotations

import logging
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from close.data.rows import Modality, Row, RowFile
from close.errors import DataError
from close.model.configuration import Several
from close.model.language_models.base import IGNORED, LanguageModelKind
from close.model.sets import Sets, padded_sets
from close.runs.prompts import Prompter, padded
from close.runs.recipe import Recipe
from close.runs.row_vectors import embeddings_of
from close.tasks import Task, source_labels, targets_of
from close.vectors.table import EmbeddingTable

__all__ = ["Collator", "LengthSampler", "MixedDataset", "TextDataset", "labels_of", "pair_up"]

_log = logging.getLogger(__name__)
Captions = Literal["single", "multiple"]


class Found(Protocol):
    """What was found for rows in a memory (`close.retrieval`)."""

    def vectors(self, row: int) -> NDArray[np.float32] | None:
        """(n, D) of a row's neighbours; None where they do not go into the prefix."""

    def context(self, row: int, context: str, epoch: int) -> str:
        """A row's context with the words that were found; of its own words, those that an epoch keeps."""


def labels_of(recipe: Recipe, place: Path) -> Callable[[Row], Sequence[str]]:
    """What gives the labels of a row's sources (`source_labels`) in a data file: a training file is read for its task."""
    read_for = (part.task for part in recipe.parts() if part.train.resolve() == place.resolve())
    return partial(source_labels, task=next(read_for, None))


class TextDataset(Dataset[dict[str, Any]]):
    """Examples to train on: every target of every row, or with `captions="multiple"` every other caption of the group.

    Args:
        rows: the data file. task: how to read it. table: embeddings of its sources (or of its files).
        captions: "single": a row's own targets. "multiple": those of the other rows of its `group`.
        several: what becomes of several sources or files of a row: their "mean", or a "set". found: what goes with each row.
        instruct: put the task's instruction before the context. lowercase: false takes texts as the rows have them.
        pairs: what `pair_up` makes of the rows, where that is known.
    Attributes:
        lengths: characters of each example's target.
    Raises:
        DataError: a row lacks what the task needs; no two rows share a group, where "multiple" learns from those that do.
    """

    def __init__(
        self,
        rows: RowFile,
        task: Task,
        table: EmbeddingTable,
        captions: Captions = "single",
        *,
        instruct: bool = False,
        several: Several = "mean",
        found: Found | None = None,
        lowercase: bool = True,
        pairs: tuple[NDArray[np.int64], ...] | None = None,
    ) -> None:
        self.rows, self.task, self.instruct, self.found, self.lowercase = rows, task, instruct, found, lowercase
        self.embeds = embeddings_of(rows, task, table, several)
        known = pair_up(rows, task, captions) if pairs is None else pairs
        self.source_row, self.target_row, self.target, self.lengths = known
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # workers may outlive an epoch

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch's words are left out."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.source_row)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < 0:  # from a sampler that fills its last step
            return self[~index] | {"counts": False}
        source, other = int(self.source_row[index]), int(self.target_row[index])
        row = self.rows[source]
        told = row if other == source else self.rows[other]
        targets = targets_of(told, self.task, lowercase=self.lowercase)
        context, neighbours = self.task.context(row), None
        if self.found is not None:
            context = self.found.context(source, context, int(self.epoch))
            neighbours = self.found.vectors(source)
        return {
            "row": index,
            "embed": self.embeds[source],
            "context": self.task.prompt(context, self.instruct),
            "target": targets[int(self.target[index])],
            **({} if neighbours is None else {"neighbours": neighbours}),
        }


class MixedDataset(Dataset[dict[str, Any]]):
    """Several tasks in one epoch, each example as often as its task's weight says.

    Args:
        parts: the tasks' examples. weights: 1 is once an epoch, 2 twice, 0.5 a half drawn anew for every epoch.
        seed: of those draws.
    """

    def __init__(self, parts: Sequence[TextDataset], weights: Sequence[float], seed: int) -> None:
        self.parts, self.weights, self.seed = parts, weights, seed
        self.starts = np.cumsum([0, *map(len, parts)])
        self.chosen = torch.from_numpy(self._draw(0)).share_memory_()  # workers may outlive an epoch

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The same for all examples: sorted by length, a batch would hold one task, and the tasks pull to and fro."""
        return np.zeros(len(self), np.int64)

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's examples."""
        for part in self.parts:
            part.set_epoch(epoch)
        self.chosen.copy_(torch.from_numpy(self._draw(epoch)))

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self.seed, epoch))
        chosen = []
        for part, weight, start in zip(self.parts, self.weights, self.starts[:-1], strict=True):
            whole = int(weight)
            some = round((weight - whole) * len(part)) or (not whole)  # a task is learnt, however little
            rest = rng.permutation(len(part))[:some]
            chosen.append(start + np.concatenate([np.tile(np.arange(len(part)), whole), np.sort(rest)]))
        return np.concatenate(chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < 0:
            return self[~index] | {"counts": False}
        place = int(self.chosen[index])
        part = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.parts[part][place - int(self.starts[part])] | {"row": index}


SHORT = 24
"""Characters up to which targets count as alike. Sorted further, a batch would hold one label or one answer only."""


class LengthSampler(Sampler[int]):
    """A shuffled order in which batches hold targets of like length, so that little of a batch is padding.

    Examples are shuffled, cut into runs of 50 batches, sorted by length inside each run, and the batches shuffled. The order
    follows from (seed, epoch) alone.

    Args:
        dataset: with `lengths`. batch_size: of the whole optimizer step's device batches.
        fill: complete the last step with examples that do not count, given as ~index. Several processes need steps of one
            size, and would otherwise see rows of the first step twice.
    """

    def __init__(self, dataset: TextDataset | MixedDataset, batch_size: int, seed: int, *, fill: bool = False) -> None:
        self.dataset, self.batch_size, self.seed, self.fill = dataset, batch_size, seed, fill
        self.epoch, self.done = 0, False

    def pin(self, epoch: int, *, done: bool = False) -> None:
        """Which epoch's order comes next, or that nothing does.

        (Not `set_epoch`: a loader would call that with its own, wrong after a resume.)
        """
        self.epoch, self.done = epoch, done

    def __len__(self) -> int:
        return len(self.dataset) + self._missing

    @property
    def _missing(self) -> int:
        return -len(self.dataset) % self.batch_size if self.fill else 0

    def __iter__(self) -> Iterator[int]:
        if self.done:
            return
        lengths = np.maximum(self.dataset.lengths, SHORT)
        rng = np.random.default_rng((self.seed, self.epoch))
        order, run = rng.permutation(len(lengths)), 50 * self.batch_size
        runs = [order[start : start + run] for start in range(0, len(order), run)]
        ordered = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in runs])
        whole = len(ordered) - len(ordered) % self.batch_size
        batches = ordered[:whole].reshape(-1, self.batch_size)
        yield from np.concatenate([rng.permutation(batches).ravel(), ordered[whole:]]).tolist()
        yield from (~np.resize(ordered, self._missing)).tolist()


def pair_up(
    rows: RowFile, task: Task, captions: Captions, *, needs: Modality | None = None
) -> tuple[NDArray[np.int64], ...]:
    """The examples of rows: row of the source, row of the target, which of its targets, and that one's characters; (E,) each.

    Args:
        needs: what the vector of every row is to be made of: its source texts, or its images.
    Raises:
        DataError: as `TextDataset`; a row has nothing to make a vector of.
    """
    sources, others, targets = array("q"), array("q"), array("q")
    groups: dict[str, list[int]] = defaultdict(list)
    counts, lengths = array("q"), array("q")
    for index, row in enumerate(rows):
        try:
            task.context(row)  # checks the row
            if needs and not (task.source(row) if needs == "text" else row.images):
                what = "'source' text" if needs == "text" else "'image'"
                raise DataError(f"row {row.id!r} has no {what}, of which its vector is to be made")
            found = [len(target) for target in task.targets(row)]
            counts.append(len(found))
            lengths.extend(found)
        except DataError as error:
            raise DataError(f"{rows.path}: {error}") from None
        if captions == "multiple":
            groups[row.group if row.group is not None else f"\0{index}"].append(index)
    for source in range(len(counts)):
        if captions == "single":
            _extend(sources, others, targets, source, source, counts[source])
    for members in groups.values():
        for source in members:
            for other in members:
                if other != source:
                    _extend(sources, others, targets, source, other, counts[other])
    if not sources and captions == "multiple":
        raise DataError(f"{rows.path}: captions: multiple needs rows that share a 'group'; none do")
    if silent := counts.count(0):
        untold = (
            f"{rows.path}: {silent:,} of {len(counts):,} rows have nothing to learn to say (a 'target', or a 'source')"
        )
        if not sources:
            raise DataError(untold)
        _log.warning("%s, and are left out", untold)
    pairs = [np.frombuffer(a, dtype=np.int64) for a in (sources, others, targets)]
    starts = np.cumsum([0, *counts])
    return *pairs, np.frombuffer(lengths, dtype=np.int64)[starts[pairs[1]] + pairs[2]]


def _extend(sources: array[int], others: array[int], targets: array[int], source: int, other: int, count: int) -> None:
    for target in range(count):
        sources.append(source)
        others.append(other)
        targets.append(target)


class Collator:
    """Examples of a `TextDataset` → the inputs of `CloseModel.forward`, and the row numbers that noise is drawn by."""

    def __init__(
        self,
        tokenizer: Any,
        modality: Modality,
        max_target_length: int,
        max_context_length: int = 512,
        kind: LanguageModelKind | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.modality = modality
        self.max_target_length = max_target_length
        self.prompt = Prompter(tokenizer, max_context_length, kind)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        targets = [example["target"] for example in examples]
        labels = padded(self.prompt.kind.targets(self.tokenizer, targets, self.max_target_length))
        counts = torch.tensor([[example.get("counts", True)] for example in examples])
        sets = Sets(*padded_sets([torch.from_numpy(example["embed"]) for example in examples]))
        if "neighbours" in examples[0]:
            found = padded_sets([torch.from_numpy(example["neighbours"]) for example in examples])
            sets = sets.with_neighbours(*found)
        return {
            "embeds": sets.embeds,
            "modality": self.modality,
            "labels": labels.masked_fill(~counts, IGNORED),
            "rows": torch.tensor([example["row"] for example in examples]),
            **sets.inputs,
            **self.prompt([example["context"] for example in examples]),
        }
