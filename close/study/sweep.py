"""Many ways across the gap in one comparison: adapters × noise × seeds, with intervals."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from close.adapters.resolve import check_tables
from close.data.rows import Modality, RowFile
from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import DataError, RecipeError
from close.evaluation.images import select_rows
from close.evaluation.metrics import METRICS
from close.evaluation.side_by_side import side_by_side
from close.io.files import write_json, write_text
from close.io.jobs import clear, exclusively
from close.io.plain import read_plain
from close.io.record import stamp
from close.model.language_models.loading import check_language_model
from close.runs.apart import learnt_from, tell_met
from close.runs.evaluate import evaluated, evaluation_folder
from close.runs.length import LENGTH_FILE, check_match, match_length
from close.runs.predict import named_task
from close.runs.recipe import Recipe, checked
from close.study.arms import Arm, merged, naming
from close.study.export import csv_of, latex_of, several_settings, table_of
from close.study.page import sweep_page
from close.study.results import plot, plot_methods, summarise
from close.study.selection import saved_selection
from close.tasks import Task, get_task
from close.training.checks import check_work
from close.training.origin import filled_in
from close.training.train import train
from close.vectors.open import check_rows, open_vectors

__all__ = ["checked_base", "deciding", "run_arm", "run_folder", "sweep"]

_log = logging.getLogger(__name__)

_FOLLOWING = ("several", "tune")
"""Keys that follow from others where a recipe leaves them out: an arm of another task, or with LoRA, has its own."""

_LATER = {
    "max_new_tokens": None,
    "data.val_images": None,
    "lowercase": True,
    "retrieve.index": "exact",
    "training.prefix_learning_rate": None,
}
"""Keys that came after runs were named by their recipes, and what they say of a run of before, which keeps its name."""


def run_folder(base: Recipe, arm: Arm, seed: int, folder: Path) -> tuple[Recipe, Path]:
    """The recipe of one run, and where it lies: named by the arm, the seed and a hash of the recipe.

    Raises:
        RecipeError: the arm makes no recipe; it is named.
    """
    seed += arm.apart
    left = {key for key in _FOLLOWING if key not in base.model_fields_set}
    given = {key: value for key, value in base.dump().items() if key not in left}
    recipe = checked(merged(given, arm.changes) | {"seed": seed}, f"arm {arm.name!r}")
    digest = hashlib.sha256(json.dumps(deciding(recipe), sort_keys=True).encode()).hexdigest()[:10]
    return recipe, folder / "runs" / f"{re.sub(r'[^-+.,=()A-Za-z0-9]', '_', arm.name)[:80]}-{seed}-{digest}"


def deciding(recipe: Recipe) -> dict[str, Any]:
    """What a run is known by: a recipe's values, but for keys that came later and say nothing new."""
    values = recipe.dump()
    for key, before in _LATER.items():
        section, _, name = key.rpartition(".")
        place = values[section] if section else values
        if place and place[name] == before:
            del place[name]
    return values


def run_arm(
    base: Recipe,
    arm: Arm,
    seed: int,
    test: Path | None,
    folder: Path,
    *,
    tune: Path | None = None,
    select: Path | None = None,
    select_images: Path | None = None,
    photos: Path | None = None,
) -> dict[str, Any]:
    """Train and score one arm with one seed; what is done already is read, not done again.

    Args:
        photos: on which its texts are made as long as its targets (`match_length`), before it is scored.
    Returns:
        Score by name for images in ("image") and for text in ("text"), where there are test rows; for the images of rows to tune
        on ("tuning"); and for texts that stand in for images ("selection"), where there are rows to select by and the arm is
        trained on text. `examples`: how many images and how many texts were scored, where these differ. `length_ratio`: words
        of what is said of images against the references', where there are any; with `photos`, `length`: the `penalty`, and
        whether texts are as long with it (`reached`).
    """
    recipe, place = run_folder(base, arm, seed, folder)
    train(recipe, place, resume=True)
    if photos is None and (place / LENGTH_FILE).is_file():
        raise RecipeError(f"{place}: its texts' length was matched to photos before (--match-length); give them again")
    scores: dict[str, Any] = {}
    counts: dict[str, int] = {}
    if photos is not None:
        scores["length"] = _matched(place, recipe, photos)
    looked: tuple[tuple[str, Path | None, Modality], ...]
    looked = (("image", test, "image"), ("text", test, "text"), ("tuning", tune, "image"))
    for name, rows, modality in looked:
        if rows is not None:
            found = evaluated(place, rows, modality)
            scores[name] = _headlines(found)
            counts |= {name: found["n"]} if name != "tuning" else {}
            if name == "image" and "length_ratio" in found:
                scores["length_ratio"] = found["length_ratio"]
    if len({*counts.values()}) > 1:
        scores["examples"] = counts
    if select is not None and recipe.train_on == "text":
        scores["selection"] = _headlines(saved_selection(place, select, image=select_images)["scores"])
    return scores


def _matched(run: Path, recipe: Recipe, photos: Path) -> dict[str, Any]:
    """The length penalty of a run, and whether its texts are as long with it; found on these photos, once.

    Raises:
        RecipeError: it was found on others.
    """
    if not (run / LENGTH_FILE).is_file():
        known = match_length(run, photos)
    else:
        known = read_plain(run / LENGTH_FILE)
        if known.get("of") not in (None, check_match(recipe, photos)):
            raise RecipeError(
                f"{run}: its texts' length was matched to other photos than {photos}; give those, or another --out"
            )
    return {"penalty": known["length_penalty"], "reached": known["reached"]}


def _headlines(scores: dict[str, Any]) -> dict[str, float]:
    """Scores that a sweep reports, where the evaluation has them, or else its first; the first of these is plotted."""
    known = [score for score in METRICS.scores() if scores.get(score.key) is not None]
    shown = [score for score in known if score.headline] or known[:1]
    return {score.key: scores[score.key] for score in shown}


def sweep(
    base: Recipe,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    test: str | Path | None,
    out: str | Path,
    *,
    tune: str | Path | None = None,
    select: str | Path | None = None,
    select_images: str | Path | None = None,
    photos: str | Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train and score every arm with every seed; a stopped sweep continues where it was.

    Writes `sweep.json`, the table (`sweep.md`, `.csv`, `.tex`) and the plot (`sweep.png`, `.pdf`, `.svg`) after every run, and
    `methods.png` of methods in several settings; at the end `index.html`, where there are test rows: what may be claimed, the
    table, the figures, and the same pictures as each arm captions them.

    Args:
        test: rows with images to score on; None where there are none. tune: other such rows, on which each method's setting is
            chosen, where arms are methods in several settings.
        select: rows whose texts stand in for images (`close.study.selection`), to choose the best arm by; other than those of
            `test`.
        select_images: a table of unpaired images, which makes these stand-ins more like them.
        photos: photos without captions, on which each arm is made to tell as much as its training texts (`close.runs.length`).
    Returns:
        What `sweep.json` says: for each arm, score and modality the values, their mean and its 95 % interval over seeds
        (Student's t), and the recovered share (arm − none) / (image − none); with `select`, the arm `selected` by it; and for
            each score what may be claimed (`close.study.claims`).
    Raises:
        RecipeError: no seed or no arm, or nothing to score on.
    """
    folder = Path(out)
    base, looks = checked_base(
        base, arms, seeds, folder, test=test, tune=tune, select=select, select_images=select_images, photos=photos
    )
    results: dict[str, dict[str, Any]] = {}
    with exclusively(folder, "is being made"):
        clear(folder)
        for number, (seed, arm) in enumerate(product(seeds, arms), 1):
            tell(f"run {number} of {len(arms) * len(seeds)}: {arm.name}, seed {seed}")
            scores = run_arm(base, arm, seed, folder=folder, **looks)
            about = {"method": arm.method, "setting": arm.setting} if arm.setting else {}
            results.setdefault(arm.name, about | {"runs": []})["runs"].append({"seed": seed, **scores})
            summary = summarise(results)
            summary |= {"recipe": base.dump(), "arms": {arm.name: arm.changes for arm in arms}}
            summary |= {"fitted_on": {arm.name: list(arm.fitted) for arm in arms if arm.fitted}}
            summary |= ({"length_matched_on": str(looks["photos"])} if looks["photos"] else {}) | stamp(folder)
            _write(folder, summary)
        if looks["test"] is not None:
            _write_page(base, arms, seeds, looks["test"], folder, summary)
    return summary


def checked_base(
    base: Recipe, arms: Sequence[Arm], seeds: Sequence[int], folder: Path, **given: str | Path | None
) -> tuple[Recipe, dict[str, Path | None]]:
    """What all runs of a sweep share, whole, and what they are looked at with; after every arm is checked, and that too.

    Args:
        given: test, tune, select, select_images and photos, as `sweep` takes them.
    Raises:
        CloseError: as `sweep`.
    """
    looks = {key: None if path is None else Path(path) for key, path in given.items()}
    if not arms or not seeds:
        raise RecipeError("a sweep needs at least one adapter and one seed")
    if looks["test"] is None and looks["select"] is None:
        raise RecipeError("a sweep scores on test rows with images, or selects by text, or both: give --test, --select")
    base = filled_in(base, folder)
    _check(base, arms, seeds, folder, **looks)
    return base, looks


def _check(
    base: Recipe,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    test: Path | None,
    tune: Path | None,
    select: Path | None,
    select_images: Path | None,
    photos: Path | None,
) -> None:
    """Every arm as a whole recipe, and what it is scored on, before the first is trained."""
    names = [arm.name for arm in arms]
    for what, given in (("arm", list(map(repr, names))), ("seed", list(map(str, seeds)))):
        if twice := [one for one in given if given.count(one) > 1]:
            raise RecipeError(f"{what} {twice[0]} is there twice; expected each once")
    recipes = [run_folder(base, arm, seed, folder)[0] for arm in arms for seed in seeds][:: len(seeds)]
    _check_arms_differ(names, recipes)
    files = [open_rows(part.train, base.data.columns) for part in base.parts()]
    encoder = cache(lambda: load_encoder(base.encoder))
    for arm, recipe in zip(arms, recipes, strict=True):
        _check_length(arm, recipe)
        if recipe.train_on == "image" and (without := [rows.path for rows in files if rows[0].image is None]):
            raise RecipeError(f"{without[0]}: no images to train the ceiling on; leave it out with --no-image")
        with naming(arm.name):
            val = open_rows(recipe.data.val, recipe.data.columns) if recipe.data.val else None
            check_work(recipe, files, val, language_model=False)
            check_tables(recipe.adapter, encoder)
    check_language_model(base.language_model)
    tasks = list(dict.fromkeys(part.task for part in base.parts()))
    if tune is not None and test is None:
        raise RecipeError("--tune goes with --test: rows that the settings chosen on it are judged by")
    opened = cache(open_rows)
    for option, chooser in (("--tune", tune), ("--select", select)):
        if chooser is not None and test is not None:
            _check_apart(option, opened(chooser), opened(test))
    if test is not None:
        places: dict[Path, Any] = {place: None for place in (tune, select, select_images, photos) if place is not None}
        for recipe in recipes:
            places |= learnt_from(recipe)
        tell_met(opened(test), places, str(test))
    for place in (test, tune):
        if place is None:
            continue
        rows, task = opened(place), _scored_task(opened(place), tasks)
        if lacking := next((row for row in rows if row.image is None or not task.source(row)), None):
            raise DataError(
                f"{rows.path}: row {lacking.id!r}: rows to score on have an 'image' and a 'source', a caption that is fed in the "
                "picture's place; `close convert` without --per image writes both"
            )
    if select is not None:
        select_rows(opened(select), _scored_task(opened(select), tasks))
    if select_images is not None:
        if select is None:
            raise RecipeError("--select-image goes with --select: images that the selection's texts are made like")
        check_rows(f"--select-image {select_images}", open_vectors(select_images, "image"), encoder())
    if photos is not None:
        check_match(base, photos)


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
            f"arm {arm.name!r}: training.max_steps {steps} says how long it is, whatever its epochs: vary "
            "training.max_steps, or leave that out of the recipe"
        )


def _write(folder: Path, summary: dict[str, Any]) -> None:
    write_json(folder / "sweep.json", summary)
    for suffix, text in (("md", table_of(summary)), ("csv", csv_of(summary)), ("tex", latex_of(summary))):
        write_text(folder / f"sweep.{suffix}", text)
    plot(summary, folder / "sweep.png")
    if several_settings(summary):
        plot_methods(summary, folder / "methods.png")


def _write_page(
    base: Recipe, arms: Sequence[Arm], seeds: Sequence[int], test: Path, folder: Path, summary: Mapping[str, Any]
) -> None:
    """All arms side by side: intervals over seeds, and what each says of the same pictures with the first seed."""
    runs = {arm.name: run_folder(base, arm, seeds[0], folder)[1] / "evaluations" for arm in arms}
    sha256 = open_rows(test).sha256
    looks = {name: evaluation_folder(place, test, sha256, "image") for name, place in runs.items()}
    result = side_by_side(looks, references=test, tokenizer="python", samples=0)
    write_text(folder / "index.html", sweep_page(result, summary, [seeds[0] + arm.apart for arm in arms], folder))
