"""What a training goes on from, and what `plan` tells of it: everything that is known and checked before texts are embedded."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import Seq2SeqTrainingArguments

from close.adapters.resolve import check_tables
from close.data.rows import RowFile
from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import RecipeError
from close.plugins import key_of, plugins_said
from close.runs.folder import CHECKPOINTS, check_goes_on, is_finished, started_run
from close.runs.recipe import Recipe, checked
from close.runs.recipe_file import seen_in
from close.runs.row_vectors import tell_other_rows
from close.runs.sections import TaskSection
from close.runs.slips import Slips
from close.runs.sources import sums_beside
from close.tasks import Task, get_task
from close.training.arguments import training_arguments
from close.training.checks import check_work, of_one_encoder, recipe_table
from close.training.examples import MixedDataset, pair_up
from close.training.origin import Origin, filled_in, origin_of
from close.training.processes import first_alone
from close.training.validation import ValidationRows
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
        CloseError: anything wrong with recipe, data, encoder or tables; of several mistakes all that can be told.
    """
    if resume and overwrite:
        raise RecipeError("resume goes on with the run that is there, overwrite removes it: give one of them")
    recipe = filled_in(_as_read(recipe), folder, resume=resume)
    if embed_memory and recipe.retrieve is None:
        raise RecipeError("a memory is embedded where the recipe says 'retrieve', and it does not")
    if is_finished(folder, recipe, resume=resume, overwrite=overwrite):
        return None
    started = started_run(folder) if resume else None
    origin = origin_of(recipe, folder, started)
    slips, encoder = Slips(), cache(lambda: load_encoder(recipe.encoder))
    with slips.kept():
        arguments = training_arguments(recipe, folder / CHECKPOINTS, origin.weights if origin else None)
    judged, parts = _parts(recipe, slips)
    slips.tell()  # before an encoder is fetched, which may take long
    made_by, count = _made_by(recipe, origin, [part.given for part in parts], encoder), len(recipe.parts())
    examples = _examples(recipe, arguments, parts[:count])
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
        parts=parts[:count],
        val=parts[-1] if recipe.data.val is not None else None,
        judged=judged,
        encoder=encoder,
        beside=beside,
        examples=examples,
    )


def _as_read(recipe: Recipe) -> Recipe:
    """The recipe, with its places in full where the working directory is another than when it was read."""
    if recipe.read_in == os.getcwd():
        return recipe
    return checked(seen_in(recipe.model_dump(mode="json", exclude_unset=True), recipe.read_in), "the recipe")


def _parts(recipe: Recipe, slips: Slips) -> tuple[ValidationRows | None, list[Part]]:
    """What the best checkpoint is known by, if asked for, and what is learnt from and watched; what is wrong is kept."""
    sections, files, judged, parts = recipe.parts(), list[RowFile](), None, list[Part]()
    every, val = [section.train for section in sections], recipe.data.val
    if val is not None:
        every, sections = [*every, val], [*sections, sections[0].model_copy(update={"embeddings": None})]
    for place in every:
        with slips.kept():
            files.append(open_rows(place, recipe.data.columns))
    if len(files) == len(every):
        with slips.kept():
            judged = check_work(recipe, files[: len(recipe.parts())], files[-1] if val is not None else None)
        for section, rows in zip(sections, files, strict=True):
            with slips.kept():
                parts.append(_part(recipe, section, rows))
    return judged, parts


def _made_by(recipe: Recipe, origin: Origin | None, tables: Sequence[EmbeddingTable | None], encoder: Any) -> Any:
    """What makes the run's vectors, which its adapter and the run that it begins from must be of too."""
    with first_alone():  # of several processes one fetches the encoder, the others find it
        made_by = of_one_encoder(tables, encoder)
        if origin:
            origin.check_encoder(recipe.encoder, made_by.fingerprint)
        else:
            check_tables(recipe.adapter, lambda: made_by)
    return made_by


def _part(recipe: Recipe, section: TaskSection, rows: RowFile) -> Part:
    given = recipe_table(recipe, section.embeddings) if section.embeddings else None
    if given is not None:
        tell_other_rows(given, rows)
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


def _how(arguments: Seq2SeqTrainingArguments) -> dict[str, Any]:
    precision = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32"
    return {"precision": precision, "processes": arguments.world_size}
