"""What can be known of a run before its work starts, beyond what its recipe says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from close.adapters.resolve import takes_groups
from close.data.rows import RowFile, named_sources
from close.errors import DataError
from close.model.language_models.loading import check_language_model, check_room, skeleton
from close.model.lora import lora_targets
from close.model.prefixes import build_prefix
from close.runs.recipe import Recipe
from close.tasks import check_views, get_task
from close.training.retrieving import check_retrieve
from close.training.validation import ValidationRows, validation_rows

__all__ = ["check_work"]


def check_work(
    recipe: Recipe, files: Sequence[RowFile], val: RowFile | None = None, *, language_model: bool = True
) -> ValidationRows | None:
    """Look at data and language model before texts are embedded, which may take hours.

    Args:
        files: the rows of each of the recipe's parts. val: those that are watched. language_model: look at that too.
    Returns:
        What the best checkpoint is to be known by, where a score of `val` is asked for.
    Raises:
        DataError: rows have no groups where they are needed. MissingError, WeightsError: the language model can't
            be loaded. MismatchError: the prefix does not fit it. RecipeError: prefix and answers are too long
            for it. CloseError: what `validation_rows` and `check_retrieve` raise.
    """
    check_retrieve(recipe)
    if language_model and recipe.init_from is None:  # else it is that run's
        check_language_model(recipe.language_model)
        model = skeleton(recipe.language_model)
        if recipe.tune == "lora":
            lora_targets(model, recipe.lora.target_modules if recipe.lora else None)
        with torch.device("meta"):
            prefix = build_prefix(recipe.prefix, 8, model.get_input_embeddings().embedding_dim)
        longest = max(get_task(part.task).max_new_tokens for part in recipe.parts())
        check_room(recipe.language_model, model, prefix.length_of(recipe.most_vectors(_most(recipe, files))), longest)
    for place, (part, rows) in enumerate(zip(recipe.parts(), files, strict=True)):
        check_views(get_task(part.task), rows, f"{rows.path}: ")
        if part.captions == "multiple" and not _groups_of_several(rows):
            raise DataError(f"{rows.path}: captions: multiple needs rows that share a 'group'; none do")
        fits = place == 0 and recipe.init_from is None
        if fits and takes_groups(recipe.adapter) and (found := _groups_of_several(rows)) < 2:
            raise DataError(
                f"{rows.path}: {found} groups have two texts or more, and adapter {recipe.adapter!r} needs at least 2: rows of "
                "captions of one image share their 'group' (`data-gen paraphrase` writes such groups)"
            )
    return validation_rows(recipe, val)


def _most(recipe: Recipe, files: Sequence[RowFile]) -> int:
    """The most vectors of a row."""
    if recipe.several == "mean":
        return 1
    tasks = [get_task(part.task) for part in recipe.parts()]
    return max(
        len(row.images if recipe.train_on == "image" else task.source(row))
        for task, rows in zip(tasks, files, strict=True)
        for row in rows
    )


def _groups_of_several(rows: RowFile) -> int:
    """How many groups have two texts or more; a row without a group is one of its own."""
    counts = Counter[str]()
    for row in rows:
        counts[row.group or f"\0{row.id}"] += len(named_sources(row))
    return sum(count > 1 for count in counts.values())
