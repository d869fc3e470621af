"""A sweep looked at whole before its first run: every arm as a recipe, what it learns from, and what it is scored on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from close.adapters.resolve import check_tables
from close.data.rows import RowFile
from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import DataError, RecipeError
from close.evaluation.images import select_rows
from close.evaluation.metrics import METRICS
from close.model.language_models.loading import check_language_model
from close.runs.apart import learnt_from, tell_met
from close.runs.evaluate import needs_encoder
from close.runs.folder import RUN_FILE
from close.runs.length import check_match
from close.runs.predict import named_task
from close.runs.recipe import Recipe
from close.runs.slips import Slips
from close.study.arms import Arm, naming, run_folder
from close.study.fed import Wanted, fed_arm, learnt_vectors, looked_vectors, need_encoder, selection_vectors, tables_of
from close.tasks import Task, get_task
from close.training.checks import check_work, encoder_of
from close.training.origin import filled_in
from close.vectors.open import check_rows, open_vectors
from close.vectors.table import EmbeddingTable

__all__ = ["checked_base"]

_log = logging.getLogger(__name__)
Open = Callable[[Path], RowFile]
Looks = Mapping[str, Path | None]


def checked_base(
    base: Recipe,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    *,
    vectors: Sequence[str | Path] = (),
    **given: str | Path | None,
) -> tuple[Recipe, list[Arm], dict[str, Any]]:
    """What all runs of a sweep share, whole, its arms with their tables, and what they are looked at with, as `run_arm` takes it.

    Args:
        vectors, given: vectors, test, tune, select, select_images and photos, as `sweep` takes them.
    Raises:
        CloseError: as `sweep`; of several mistakes all that can be told.
    """
    looks = {key: None if path is None else Path(path) for key, path in given.items()}
    if not arms or not seeds:
        raise RecipeError("a sweep needs at least one adapter and one seed")
    if looks["test"] is None and looks["select"] is None:
        raise RecipeError("a sweep scores on test rows with images, or selects by text, or both: give --test, --select")
    base = filled_in(base, folder)
    recipes, opened, slips = _recipes(base, arms, seeds, folder), cache(open_rows), Slips()
    with slips.kept():
        _check_arms(base, arms, recipes)
    with slips.kept():
        check_language_model(base.language_model)
    slips.found |= _wrong_rows(base, looks, opened).found
    slips.tell()
    if (test := looks["test"]) is not None:
        places: dict[Path, Any] = {place: None for key, place in looks.items() if place is not None and key != "test"}
        for recipe in recipes:
            places |= learnt_from(recipe)
        tell_met(opened(test), places, str(test))
    wanted = list(_wanted(base, arms, recipes, looks, opened))
    tables = tables_of(list(map(Path, vectors)), wanted)
    _check_pictures(base, looks, wanted, tables, opened)
    _check_vectors(base, arms, recipes, looks, wanted, tables)
    fed = [fed_arm(arm, recipe, tables) for arm, recipe in zip(arms, recipes, strict=True)]
    _tell_others(base, fed, seeds, folder)
    return base, fed, looks | {"vectors": tables}


def _recipes(base: Recipe, arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> list[Recipe]:
    """Of each arm that of its first seed."""
    names = [arm.name for arm in arms]
    for what, given in (("arm", list(map(repr, names))), ("seed", list(map(str, seeds)))):
        if twice := [one for one in given if given.count(one) > 1]:
            raise RecipeError(f"{what} {twice[0]} is there twice; expected each once")
    recipes, slips = list[Recipe](), Slips()
    for arm, seed in product(arms, seeds):
        with slips.kept(f"arm {arm.name!r}: "):
            recipes.append(run_folder(base, arm, seed, folder)[0])
    slips.tell()
    first = recipes[:: len(seeds)]
    _check_arms_differ(names, first)
    return first


def _tell_others(base: Recipe, arms: Sequence[Arm], seeds: Sequence[int], folder: Path) -> None:
    """Tell finished runs of arms and seeds that are still to be trained, whose recipe or places are others."""
    wanted = [run_folder(base, arm, seed, folder)[1] for arm, seed in product(arms, seeds)]
    found = list[Path]()
    for place in wanted:
        hashed = place.name.rpartition("-")[2]
        alike = place.name.removesuffix(hashed) + "[0-9a-f]" * len(hashed)
        found += [] if place.exists() else [file.parent for file in place.parent.glob(f"{alike}/{RUN_FILE}")][:1]
    if found:
        _log.warning(
            "%s: %d of the runs to come are there by arm and seed already, such as %s, but of another recipe, or of places that "
            "lie elsewhere as seen from there: they are trained anew",
            folder,
            len(found),
            found[0].name,
        )


def _check_arms(base: Recipe, arms: Sequence[Arm], recipes: Sequence[Recipe]) -> None:
    """What each arm learns from; of its tables no more than what they are."""
    files, slips = [open_rows(part.train, base.data.columns) for part in base.parts()], Slips()
    for arm, recipe in zip(arms, recipes, strict=True):
        with slips.kept(f"arm {arm.name!r}: "), naming(arm.name):
            _check_length(arm, recipe)
            val = open_rows(recipe.data.val, recipe.data.columns) if recipe.data.val else None
            check_work(recipe, files, val, language_model=False)
    slips.tell()


def _wrong_rows(base: Recipe, looks: Looks, opened: Open) -> Slips:
    """What is wrong with the rows to score on, and to choose by."""
    test, tune, select, slips, tasks = looks["test"], looks["tune"], looks["select"], Slips(), _tasks(base)
    with slips.kept():
        if tune is not None and test is None:
            raise RecipeError("--tune goes with --test: rows that the settings chosen on it are judged by")
    for option, chooser in (("--tune", tune), ("--select", select)):
        with slips.kept():
            if chooser is not None and test is not None:
                _check_apart(option, opened(chooser), opened(test))
    for place in (test, tune):
        with slips.kept():
            if place is not None:
                _scored_task(opened(place), tasks)
    with slips.kept():
        if select is not None:
            select_rows(opened(select), _scored_task(opened(select), tasks))
    with slips.kept():
        if looks["select_images"] is not None and select is None:
            raise RecipeError("--select-image goes with --select: images that the selection's texts are made like")
    return slips


def _tasks(base: Recipe) -> list[str]:
    return list(dict.fromkeys(part.task for part in base.parts()))


def _wanted(
    base: Recipe, arms: Sequence[Arm], recipes: Sequence[Recipe], looks: Looks, opened: Open
) -> Iterator[Wanted]:
    """The vectors that arms learn from, and what is looked at, each once."""
    tasks, there = _tasks(base), set[str]()
    for arm, recipe in zip(arms, recipes, strict=True):
        for one in learnt_vectors(arm, recipe):
            if one.name not in there:
                there.add(one.name)
                yield one
    for name, key in (("image", "test"), ("text", "test"), ("tuning", "tune")):
        if (place := looks[key]) is not None:
            rows = opened(place)
            yield looked_vectors(name, rows, "text" if name == "text" else "image", _scored_task(rows, tasks))
    if (select := looks["select"]) is not None:
        yield selection_vectors(opened(select), _scored_task(opened(select), tasks))


def _check_vectors(
    base: Recipe,
    arms: Sequence[Arm],
    recipes: Sequence[Recipe],
    looks: Looks,
    wanted: Sequence[Wanted],
    tables: Mapping[str, EmbeddingTable],
) -> None:
    """Whose the tables are; and the encoder, where there are some and something else needs it."""
    encoder, slips = cache(lambda: load_encoder(base.encoder)), Slips()
    made_by = cache(lambda: encoder_of(base, encoder))
    if tables or all(part.embeddings for part in base.parts()):
        with slips.kept():
            lacking = [one.told for one in wanted if one.name not in tables]
            need_encoder([*lacking, *_needs(base, recipes, looks["photos"])], base.encoder, encoder)
        slips.tell()
    for table in tables.values():
        with slips.kept():
            check_rows(f"--vectors {table.path}", table, made_by())
    for arm, recipe in zip(arms, recipes, strict=True):
        with slips.kept(f"arm {arm.name!r}: "), naming(arm.name):
            if tables and recipe.retrieve is not None and recipe.retrieve.encoder:
                raise RecipeError(
                    f"it searches its memory in encoder {recipe.retrieve.encoder!r}, which given vectors (--vectors) can't be "
                    "searched with: leave them out, or retrieve.encoder"
                )
            check_tables(recipe.adapter, made_by)
    with slips.kept():
        if (images := looks["select_images"]) is not None:
            check_rows(f"--select-image {images}", open_vectors(images, "image"), made_by())
    with slips.kept():
        if (photos := looks["photos"]) is not None:
            check_match(base, photos)
    slips.tell()


def _needs(base: Recipe, recipes: Sequence[Recipe], photos: Path | None) -> list[str]:
    """What needs the encoder whatever tables are given."""
    found = [f"the rows of data.val, {base.data.val}"] if base.data.val else []
    found += [f"the photos of --match-length, {photos}"] if photos is not None else []
    found += ["the memory (retrieve)"] if any(recipe.retrieve for recipe in recipes) else []
    scored = [name for name in _tasks(base) if needs_encoder(get_task(name))]
    return found + [f"the scores of task {name!r}, which look at pictures" for name in scored]


def _check_pictures(
    base: Recipe, looks: Looks, wanted: Sequence[Wanted], tables: Mapping[str, EmbeddingTable], opened: Open
) -> None:
    """Rows name the pictures that they are learnt from or scored on, and all else that is fed of them."""
    for one in wanted:
        if one.learnt and one.modality == "image" and one.name not in tables and one.rows[0].image is None:
            raise RecipeError(
                f"{one.rows.path}: no images to train the ceiling on; leave it out with --no-image, or give vectors (--vectors)"
            )
    for name, key in (("image", "test"), ("tuning", "tune")):
        if (place := looks[key]) is None:
            continue
        rows, task = opened(place), _scored_task(opened(place), _tasks(base))
        pictured = name in tables
        if lacking := next((row for row in rows if not (pictured or row.image) or not task.source(row)), None):
            raise DataError(
                f"{rows.path}: row {lacking.id!r}: rows to score on have an 'image' and a 'source', a caption that is fed in the "
                "picture's place; `close convert` without --per image writes both; of pictures vectors will do (--vectors)"
            )


def _check_arms_differ(names: Sequence[str], recipes: Sequence[Recipe]) -> None:
    known: list[tuple[str, dict[str, Any]]] = []
    for name, recipe in zip(names, recipes, strict=True):
        values = recipe.dump() | {"seed": None}
        if other := next((one for one, before in known if before == values), None):
            raise RecipeError(f"arms {other!r} and {name!r} are one recipe: expected what differs, or one of them")
        known.append((name, values))


def _scored_task(rows: RowFile, tasks: Sequence[str]) -> Task:
    """What rows are scored as.

    Raises:
        RecipeError: the rows of several tasks do not all name one, or nothing scores it by itself.
    """
    task = get_task(named_task(rows, tasks, "what the recipe trains"))
    if not any(METRICS[name].scores for name in METRICS.defaults(task.metric, java=False)):
        raise RecipeError(
            f"{rows.path}: no metric scores {task.name!r} by itself, and a sweep needs one: declare one with a Score, and "
            "default=True"
        )
    return task


def _check_apart(option: str, chooser: RowFile, test: RowFile) -> None:
    """Refuse to choose by the rows that the choice is judged by."""
    if chooser.sha256 == test.sha256:
        raise RecipeError(
            f"{option} are rows that settings and arms are chosen on, other than those of --test, which they are judged by"
        )


def _check_length(arm: Arm, recipe: Recipe) -> None:
    """Refuse epochs that are varied where steps say how long each run is."""
    steps, varied = getattr(recipe.training, "max_steps", -1), arm.changes.get("training", {})
    if "epochs" in varied and steps > 0:
        raise RecipeError(
            f"training.max_steps {steps} says how long it is, whatever its epochs: vary "
            "training.max_steps, or leave that out of the recipe"
        )
