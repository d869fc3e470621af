"""What can be known of a run before its work starts, beyond what its recipe says of itself."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from close.adapters.resolve import takes_groups, takes_training_text
from close.data.rows import RowFile, evenly
from close.encoders import ContrastiveEncoder, encoder_name
from close.errors import DataError, MismatchError, RecipeError
from close.model.configuration import MOST_VECTORS, CloseConfig
from close.model.language_models.base import LanguageModelKind
from close.model.language_models.loading import check_language_model, check_room, skeleton
from close.model.lora import lora_targets
from close.model.prefixes import build_prefix
from close.runs.recipe import Recipe
from close.runs.sections import TaskSection
from close.runs.slips import Slips
from close.tasks import Task, check_views, get_task, targets_of
from close.training.examples import labels_of
from close.training.retrieving import check_retrieve
from close.training.validation import ValidationRows, validation_rows
from close.vectors.open import check_encoder
from close.vectors.table import EmbeddingTable

__all__ = ["check_work", "encoder_of", "of_one_encoder", "recipe_table", "tell_cut"]

_log = logging.getLogger(__name__)
LOOKED = 1000
"""Rows that are looked at for the task that they name."""
FOREIGN = 0.05
"""Share of unknown tokens from which a language model is said to be none for these texts."""


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
            for it, or keys do not go with these rows and tasks. CloseError: what `validation_rows` and `check_retrieve` raise.
    """
    slips, judged = Slips(), None
    with slips.kept():
        check_retrieve(recipe)
    watched = [(recipe.parts()[0], val)] if val is not None else []
    every = [*zip(recipe.parts(), files, strict=True), *watched]
    with slips.kept():
        most = max(_most(recipe, part.task, rows) for part, rows in every)
        if language_model and recipe.init_from is None:  # else it is that run's
            _check_model(recipe, most)
    with slips.kept():
        if (recipe.training.model_extra or {}).get("neftune_noise_alpha"):
            _check_embedded(recipe, files)
    for part, rows in every:
        with slips.kept():
            _check_part(recipe, part, rows)
    with slips.kept():
        if recipe.init_from is None:
            _check_learnt_texts(recipe, files)
    with slips.kept():
        judged = validation_rows(recipe, val)
    slips.tell()
    return judged


def _check_model(recipe: Recipe, most: int) -> None:
    """The language model is there, and has room for as many vectors as a row has at most."""
    check_language_model(recipe.language_model)
    model = skeleton(recipe.language_model)
    if recipe.tune == "lora":
        lora_targets(model, recipe.lora.target_modules if recipe.lora else None)
    with torch.device("meta"):
        prefix = build_prefix(recipe.prefix, 8, model.get_input_embeddings().embedding_dim)
    check_room(recipe.language_model, model, prefix.length_of(most), recipe.longest)


def _check_part(recipe: Recipe, part: TaskSection, rows: RowFile) -> None:
    """What a task is to learn from these rows can be learnt."""
    task = get_task(part.task)
    _tell_other_tasks(task, rows)
    check_views(task, rows, f"{rows.path}: ")
    if not recipe.lowercase and not task.teaches_texts:
        raise RecipeError(
            f"lowercase: false is for texts, and task {part.task!r} learns its answers as they are scored: leave it out"
        )
    if part.captions == "multiple" and task.asks:
        raise RecipeError(
            f"captions: multiple takes the other texts of an image as targets, and task {part.task!r} asks something of each "
            "row that only its own target answers: leave it out"
        )
    if part.captions == "multiple":
        _tell_alone(rows)


def _check_learnt_texts(recipe: Recipe, files: Sequence[RowFile]) -> None:
    """The training texts are what an adapter can learn from, where it learns from them."""
    if len(files) > 1 and takes_training_text(recipe.adapter):
        raise RecipeError(
            f"adapter {recipe.adapter!r} learns from the training text, and that is {len(files)} files: say which texts it "
            "learns from, as in {shared: {fit: {text: TABLE, groups: FILE}}}"
        )
    if takes_groups(recipe.adapter) and (found := _groups_of_several(recipe, files[0])) < 2:
        raise DataError(
            f"{files[0].path}: {found} groups have two texts or more, and adapter {recipe.adapter!r} needs at least 2: rows of "
            "captions of one image share their 'group' (`data-gen paraphrase` writes such groups)"
        )


def recipe_table(recipe: Recipe, place: Path) -> EmbeddingTable:
    """The embedding table that a recipe names of its rows.

    Raises:
        MissingError, DataError: it is none. MismatchError: it is of another encoder or modality than the recipe's.
    """
    table = EmbeddingTable(place)
    if table.encoder != encoder_name(recipe.encoder):
        raise MismatchError(f"{table.path} was made with encoder {table.encoder!r}, the recipe says {recipe.encoder!r}")
    if table.modality != recipe.train_on:
        raise MismatchError(f"{table.path} holds {table.modality} embeddings, the recipe trains on {recipe.train_on}")
    return table


def of_one_encoder(tables: Sequence[EmbeddingTable | None], encoder: Callable[[], ContrastiveEncoder]) -> Any:
    """What makes a run's vectors: `name`, `fingerprint` and `embed_dim`; the encoder is loaded where something is to be embedded.

    Args:
        tables: of what is learnt from and watched, those that are given; None of what is to be embedded.
        encoder: gives the recipe's.
    Raises:
        MismatchError: tables are of other weights, whatever their encoder is called.
    """
    given = [table for table in tables if table is not None]
    if len(given) < len(tables):
        found: Any = encoder()
        user = "the recipe"
    else:
        first = given[0]
        found = SimpleNamespace(name=first.encoder, fingerprint=first.fingerprint, embed_dim=first.dim)
        user = f"{first.path}"
    for table in given:
        whose = (table.encoder, table.fingerprint)
        check_encoder(f"{table.path}", *whose, user, found.name, found.fingerprint)
    return found


def encoder_of(recipe: Recipe, encoder: Callable[[], ContrastiveEncoder]) -> Any:
    """`of_one_encoder` of the tables that a recipe names of its rows.

    Raises:
        CloseError: as `recipe_table` and `of_one_encoder`, or a table is none.
    """
    tables = [recipe_table(recipe, part.embeddings) if part.embeddings else None for part in recipe.parts()]
    return of_one_encoder([*tables, *([None] if recipe.data.val else [])], encoder)


def tell_cut(recipe: Recipe, files: Sequence[RowFile], tokenizer: Any, kind: LanguageModelKind, room: int) -> None:
    """Warn of texts that are longer than what the model learns of them, as a look at some rows of each file shows.

    Args:
        tokenizer, kind: the language model's. room: tokens of a context at most.
    """
    for part, rows in zip(recipe.parts(), files, strict=True):
        task = get_task(part.task)
        looked = [rows[place] for place in evenly(len(rows), LOOKED)]
        targets = [text for row in looked for text in targets_of(row, task, lowercase=recipe.lowercase)]
        contexts = [text for row in looked if (text := task.context(row))]
        for what, texts, ids, most, mend in (
            (
                "targets",
                targets,
                kind.targets,
                recipe.longest,
                "; say how long they may be: max_new_tokens in the recipe",
            ),
            ("contexts", contexts, kind.contexts, room, ""),
        ):
            longer = zip(ids(tokenizer, texts, most), ids(tokenizer, texts, most + 1), strict=True) if texts else ()
            if cut := sum(one != other for one, other in longer):
                share = f"{cut} of {len(texts)} {what} that were looked at"
                _log.warning("%s: %s are longer than %d tokens, and are cut there%s", rows.path, share, most, mend)
        _tell_unknown(recipe, rows, targets, tokenizer)


def _tell_unknown(recipe: Recipe, rows: RowFile, targets: Sequence[str], tokenizer: Any) -> None:
    """Warn of texts that the language model has no tokens for: it learns to say that it does not know them."""
    unknown = tokenizer.unk_token_id
    if not targets or unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        return
    tokens = [token for text in tokenizer(list(targets), add_special_tokens=False)["input_ids"] for token in text]
    share = tokens.count(unknown) / max(len(tokens), 1)
    if share > FOREIGN:
        name = "that of the run it begins from" if recipe.init_from else repr(recipe.language_model)
        toy = (
            "; it knows a world of coloured shapes alone, and so does encoder: mini"
            if recipe.language_model == "mini"
            else ""
        )
        _log.warning(
            "%s: %.0f %% of the tokens to be learnt are unknown to language_model %s%s; take one that has tokens for them",
            *(rows.path, 100 * share, name, toy),
        )


def _check_embedded(recipe: Recipe, files: Sequence[RowFile]) -> None:
    """Refuse noise on embedded words where none are embedded, or none are learnt: an encoder-decoder reads prefix and context."""
    if recipe.tune == "none":
        raise RecipeError(
            "training.neftune_noise_alpha: noise on the words of a language model that learns, and tune is none: leave it out"
        )
    known = recipe.init_from / "config.json" if recipe.init_from else None
    if known is None:
        reads_both = skeleton(recipe.language_model).config.is_encoder_decoder
    else:
        reads_both = known.is_file() and CloseConfig.from_pretrained(known.parent).language_model.is_encoder_decoder
    worded = recipe.retrieve is not None and recipe.retrieve.prompted
    task = get_task(recipe.parts()[0].task)
    some = any(task.context(files[0][at]) for at in evenly(len(files[0]), LOOKED))
    if reads_both and not worded and len(files) == 1 and not some:
        raise RecipeError(
            "training.neftune_noise_alpha: noise on the embedded words that the language model reads beside the prefix, and "
            f"{files[0].path} has none (no contexts): leave it out"
        )


def _most(recipe: Recipe, name: str, rows: RowFile) -> int:
    """The most vectors of a row of a task, with what is found for it."""
    task = get_task(name)
    of_image = recipe.train_on == "image"
    own = 1 if recipe.several == "mean" else max(len(row.images if of_image else task.source(row)) for row in rows)
    if (most := recipe.most_vectors(own)) > MOST_VECTORS:
        raise DataError(f"{rows.path}: a row has {most:,} vectors, and at most {MOST_VECTORS:,} go into a prefix")
    return most


def _tell_other_tasks(task: Task, rows: RowFile) -> None:
    """Warn of rows that name another task: they are read as if they were this one's."""
    looked = [rows[place].task for place in evenly(len(rows), LOOKED)]
    if other := [name for name in looked if name not in (None, task.name)]:
        share = f"{len(other)} of {len(looked)} rows"
        _log.warning("%s: %s say that they are for task %r, and are read for %r", rows.path, share, other[0], task.name)


def _tell_alone(rows: RowFile) -> None:
    """Warn of rows that no other shares its group with: `captions: multiple` learns nothing from them.

    Raises:
        DataError: all are.
    """
    sizes = Counter(row.group for row in rows)
    alone = sizes.pop(None, 0) + sum(size == 1 for size in sizes.values())
    if alone == len(rows):
        raise DataError(f"{rows.path}: captions: multiple needs rows that share a 'group'; none do")
    if alone:
        share = f"{alone:,} of {len(rows):,} rows"
        _log.warning("%s: captions: multiple leaves out %s, which share their 'group' with no other", rows.path, share)


def _groups_of_several(recipe: Recipe, rows: RowFile) -> int:
    """How many groups have two texts or more; a row without a group is one of its own."""
    labels = labels_of(recipe, rows.path)
    counts = Counter(label for row in rows for label in labels(row))
    return sum(count > 1 for count in counts.values())
