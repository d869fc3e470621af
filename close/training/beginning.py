"""What a training goes on from, and what `plan` tells of it: everything that is known and checked before texts are embedded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import Seq2SeqTrainingArguments

from close.adapters.resolve import check_tables
from close.data.rows import RowFile
from close.data.shards import open_rows
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import RecipeError
from close.plugins import key_of, plugins_said
from close.runs.folder import CHECKPOINTS, check_goes_on, is_finished, started_run
from close.runs.recipe import Recipe
from close.runs.sections import TaskSection
from close.runs.sources import sums_beside
from close.tasks import Task, get_task
from close.training.arguments import training_arguments
from close.training.checks import check_work, recipe_table
from close.training.examples import MixedDataset, pair_up
from close.training.origin import Origin, filled_in, origin_of
from close.training.processes import first_alone
from close.training.validation import ValidationRows
from close.vectors.open import check_encoder
from close.vectors.table import EmbeddingTable

__all__ = ["Beginning", "Part", "begun"]


@dataclass(frozen=True)
class Part:
    """A data file, as a run reads it.

    Attributes:
        section: what the recipe says of it. given: the table that this names of its rows; without it, they are embedded.
        pairs: its examples (`pair_up`).
    """

    section: TaskSection
    task: Task
    rows: RowFile
    given: EmbeddingTable | None
    pairs: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True)
class Beginning:
    """A run that is to be trained.

    Attributes:
        recipe: with what is taken of the run that it begins from. started: whether it was stopped, and goes on.
        origin: the run that it begins from. parts: what it learns from. val: what is watched.
        judged: what its best checkpoint is known by, where a score of `val` is asked for. encoder: gives the recipe's, kept by
            `functools.cache`.
        beside: sums of what else it learns from (`sums_beside`). examples: how many an epoch has.
    """

    recipe: Recipe
    started: bool
    origin: Origin | None
    arguments: Seq2SeqTrainingArguments
    parts: Sequence[Part]
    val: Part | None
    judged: ValidationRows | None
    encoder: Any
    beside: Mapping[str, str]
    examples: int

    @property
    def every(self) -> list[Part]:
        """What is learnt from, and what is watched."""
        return [*self.parts, *([self.val] if self.val else [])]

    @property
    def how(self) -> dict[str, Any]:
        """What beside the recipe decides the steps, and is the machine's."""
        return _how(self.arguments)


def begun(
    recipe: Recipe, folder: Path, *, resume: bool = False, overwrite: bool = False, embed_memory: bool = False
) -> Beginning | None:
    """Check all that is known of a run before it takes time; None where it is finished. Nothing is embedded or written.

    Args:
        as `train` takes them.
    Raises:
        OutputExistsError: the folder holds something else, or what is to be resumed would go on otherwise than it began.
        CloseError: anything wrong with recipe, data, encoder or tables.
    """
    if resume and overwrite:
        raise RecipeError("resume goes on with the run that is there, overwrite removes it: give one of them")
    recipe = filled_in(recipe, folder, resume=resume)
    if embed_memory and recipe.retrieve is None:
        raise RecipeError("a memory is embedded where the recipe says 'retrieve', and it does not")
    if is_finished(folder, recipe, resume=resume, overwrite=overwrite):
        return None
    started = started_run(folder) if resume else None
    origin = origin_of(recipe, folder, started)
    arguments = training_arguments(recipe, folder / CHECKPOINTS, origin.weights if origin else None)
    sections, columns, named = recipe.parts(), recipe.data.columns, recipe.data.val
    files = [open_rows(section.train, columns) for section in sections]
    val = open_rows(named, columns) if named else None
    judged = check_work(recipe, files, val)
    encoder = cache(lambda: load_encoder(recipe.encoder))
    watched = [(sections[0].model_copy(update={"embeddings": None}), val)] if val is not None else []
    parts = [_part(recipe, *one) for one in [*zip(sections, files, strict=True), *watched]]
    examples = _examples(recipe, arguments, parts[: len(sections)])
    with first_alone():  # of several processes one fetches the encoder, the others find it
        made_by = _of_one_encoder(recipe, parts, encoder)
        if origin:
            origin.check_encoder(recipe.encoder, made_by.fingerprint)
        else:
            check_tables(recipe.adapter, lambda: made_by)
    beside = sums_beside(recipe)
    if started is not None:
        sums = {str(part.rows.path): part.rows.sha256 for part in parts}
        code = plugins_said(map(key_of, recipe.plugins))
        check_goes_on(folder, encoder=made_by.fingerprint, data=sums, beside=beside, code=code, how=_how(arguments))
    return Beginning(
        recipe=recipe,
        started=started is not None,
        origin=origin,
        arguments=arguments,
        parts=parts[: len(sections)],
        val=parts[-1] if watched else None,
        judged=judged,
        encoder=encoder,
        beside=beside,
        examples=examples,
    )


def _part(recipe: Recipe, section: TaskSection, rows: RowFile) -> Part:
    given = recipe_table(recipe, section.embeddings) if section.embeddings else None
    task = get_task(section.task)
    pairs = pair_up(rows, task, section.captions, needs=recipe.train_on if given is None else None)
    return Part(section, task, rows, given, pairs)


def _examples(recipe: Recipe, arguments: Seq2SeqTrainingArguments, parts: Sequence[Part]) -> int:
    """How many an epoch has.

    Raises:
        RecipeError: no step is made of so few.
    """
    counts: Any = [range(len(part.pairs[0])) for part in parts]
    weights = [part.section.weight for part in parts]
    examples = len(counts[0] if weights == [1] else MixedDataset(counts, weights, recipe.seed))
    least = arguments.train_batch_size
    # several processes fill their last step
    if arguments.dataloader_drop_last and arguments.world_size == 1 and examples < least:
        raise RecipeError(
            f"training: dataloader_drop_last leaves out what is no whole batch of {least}, and there are {examples} examples"
        )
    return examples


def _of_one_encoder(recipe: Recipe, parts: Sequence[Part], encoder: Callable[[], ContrastiveEncoder]) -> Any:
    """What makes a run's vectors: `name`, `fingerprint` and `embed_dim`; the encoder is loaded where something is to be embedded.

    Raises:
        MismatchError: tables are of other weights, whatever their encoder is called.
    """
    tables = [part.given for part in parts if part.given is not None]
    if len(tables) < len(parts):
        found: Any = encoder()
        user = "the recipe"
    else:
        first = tables[0]
        found = SimpleNamespace(name=first.encoder, fingerprint=first.fingerprint, embed_dim=first.dim)
        user = f"{first.path}"
    for table in tables:
        whose = (table.encoder, table.fingerprint)
        check_encoder(f"{table.path}", *whose, user, found.name, found.fingerprint)
    return found


def _how(arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    precision = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32"
    return {"precision": precision, "processes": arguments.world_size}
