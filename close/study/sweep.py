"""Many ways across the gap in one comparison: adapters × noise × seeds, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from close.data.rows import Modality
from close.data.shards import open_rows
from close.errors import RecipeError
from close.evaluation.metrics import METRICS
from close.evaluation.side_by_side import side_by_side
from close.io.files import write_json, write_text
from close.io.jobs import clear, exclusively
from close.io.plain import read_plain
from close.io.record import stamp
from close.runs.evaluate import evaluated
from close.runs.evaluations import evaluation_folder
from close.runs.length import LENGTH_FILE, match_length, matched_alike
from close.runs.recipe import Recipe
from close.study.arms import Arm, deciding, run_folder
from close.study.checks import checked_base
from close.study.export import MODALITIES, csv_of, latex_of, several_settings, table_of
from close.study.page import sweep_page
from close.study.results import plot, plot_methods, summarise
from close.study.selection import saved_selection
from close.training.train import train
from close.vectors.table import EmbeddingTable

__all__ = ["deciding", "run_arm", "run_folder", "sweep"]


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
    vectors: Mapping[str, EmbeddingTable] | None = None,
) -> dict[str, Any]:
    """Train and score one arm with one seed; what is done already is read, not done again.

    Args:
        photos: on which its texts are made as long as its targets (`match_length`), before it is scored.
        vectors: tables that are fed in the encoder's place, by the names below.
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
    counts, fed = dict[str, int](), vectors or {}
    if photos is not None:
        scores["length"] = _matched(place, recipe, photos)
    looked: tuple[tuple[str, Path | None, Modality], ...]
    looked = (("image", test, "image"), ("text", test, "text"), ("tuning", tune, "image"))
    for name, rows, modality in looked:
        if rows is not None:
            found = evaluated(place, rows, modality, fed.get(name))
            scores[name] = _headlines(found)
            counts |= {name: found["n"]} if name != "tuning" else {}
            if name == "image" and "length_ratio" in found:
                scores["length_ratio"] = found["length_ratio"]
    if len({*counts.values()}) > 1:
        scores["examples"] = counts
    if select is not None and recipe.train_on == "text":
        chosen = saved_selection(place, select, image=select_images, vectors=fed.get("selection"))
        scores["selection"] = _headlines(chosen["scores"])
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
        if not matched_alike(known, recipe, photos):
            raise RecipeError(
                f"{run}: its texts' length was matched to other photos than those of {photos}, or in another way: give those, or "
                f"another --out, or match it anew (close match-length {run} {photos})"
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
    vectors: Sequence[str | Path] = (),
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
        vectors: tables that are taken in the encoder's place, each where it holds all that is wanted: pictures and captions of
            `test`, pictures of `tune`, captions and references of `select`, and what an arm learns from that the recipe has no
            table of.
    Returns:
        What `sweep.json` says: for each arm, score and modality the values, their mean and its 95 % interval over seeds
        (Student's t), and the recovered share (arm − none) / (image − none); with `select`, the arm `selected` by it; and for
            each score what may be claimed (`close.study.claims`).
    Raises:
        RecipeError: no seed or no arm, or nothing to score on; a table of nothing that is wanted; or what needs the encoder is
            asked for, and it can't be loaded.
    """
    folder = Path(out)
    given: Any = {"test": test, "tune": tune, "select": select, "select_images": select_images, "photos": photos}
    base, arms, looks = checked_base(base, arms, seeds, folder, vectors=vectors, **given)
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
            summary |= ({"length_matched_on": str(looks["photos"])} if looks["photos"] else {}) | _fed(looks["vectors"])
            summary |= stamp(folder)
            _write(folder, summary)
        if looks["test"] is not None:
            _write_page(base, arms, seeds, looks, folder, summary)
    return summary


def _fed(tables: Mapping[str, EmbeddingTable]) -> dict[str, Any]:
    """What a summary says of tables that scores are of."""
    named = {name: str(table.path) for name, table in tables.items() if name in MODALITIES}
    return {"vectors": named} if named else {}


def _write(folder: Path, summary: dict[str, Any]) -> None:
    write_json(folder / "sweep.json", summary)
    for suffix, text in (("md", table_of(summary)), ("csv", csv_of(summary)), ("tex", latex_of(summary))):
        write_text(folder / f"sweep.{suffix}", text)
    plot(summary, folder / "sweep.png")
    if several_settings(summary):
        plot_methods(summary, folder / "methods.png")


def _write_page(
    base: Recipe,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    looked: Mapping[str, Any],
    folder: Path,
    summary: Mapping[str, Any],
) -> None:
    """All arms side by side: intervals over seeds, and what each says of the same pictures with the first seed."""
    runs = {arm.name: run_folder(base, arm, seeds[0], folder)[1] / "evaluations" for arm in arms}
    test, given = looked["test"], looked["vectors"].get("image")
    sha256 = open_rows(test).sha256
    looks = {name: evaluation_folder(place, test, sha256, "image", given=given) for name, place in runs.items()}
    result = side_by_side(looks, references=test, tokenizer="python", samples=0)
    write_text(folder / "index.html", sweep_page(result, summary, [seeds[0] + arm.apart for arm in arms], folder))
