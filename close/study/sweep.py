"""Many ways across the gap in one comparison: adapters × noise × seeds, with intervals."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from close.adapters.base import stages_of
from close.data.shards import open_rows
from close.errors import DataError, RecipeError
from close.evaluation.evaluate import evaluate
from close.evaluation.metrics import METRICS
from close.evaluation.transfer import recovered_share
from close.io.files import read_json, write_json, write_text
from close.io.plots import Colours, figure, save_png
from close.io.versions import versions
from close.runs.checks import check_work
from close.runs.folder import RUN_FILE
from close.runs.recipe import Recipe, checked
from close.runs.train import train
from close.study.selection import best, saved_selection, select_rows
from close.tasks import get_task
from close.vectors.open import open_vectors

__all__ = ["Arm", "arms_of", "cell", "interval", "run_arm", "run_folder", "summarise", "sweep"]

MODALITIES = {"image": "images in", "text": "text in", "selection": "stand-ins in"}


@dataclass(frozen=True)
class Arm:
    """One way to train: a name, and what differs from the base recipe."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)


def arms_of(
    adapters: Sequence[Any], noises: Sequence[float], *, epochs: Sequence[float] = (), image: bool = True
) -> list[Arm]:
    """Every adapter at every noise, with the two that a comparison needs: `none` below and `image` above.

    Args:
        adapters: specs as in a recipe; "none" means noise alone.
        noises: cosines that the noise leaves; 1 means no noise.
        epochs: every arm for each of these lengths of training; the recipe's where empty.
        image: include the image-supervised ceiling.
    Raises:
        RecipeError: something is given twice, or no cosine.
    """
    for kind, given in (("adapter", adapters), ("noise", noises), ("epochs", epochs)):
        if twice := [one for place, one in enumerate(given) if one in list(given)[:place]]:
            raise RecipeError(f"{kind} {twice[0]!r} is given twice; each is trained once")
    if wrong := [cosine for cosine in noises if not 0 < cosine <= 1]:
        raise RecipeError(f"noise {wrong[0]!r}: the cosine that it leaves is more than 0, and 1 without noise")
    arms = [Arm("none", {"adapter": "none", "train_on": "text"})]
    for spec in adapters:
        for cosine in noises:
            stages = stages_of(spec) + ([{"gaussian": {"cosine": cosine}}] if cosine < 1 else [])
            stages = [stage for stage in stages if stage != "none"]
            if stages:
                arms.append(Arm(" + ".join(map(_label, stages)), {"adapter": stages, "train_on": "text"}))
    arms = [arm for place, arm in enumerate(arms) if arm not in arms[:place]]
    for name in {
        arm.name for arm in arms if [one.name for one in arms].count(arm.name) > 1
    }:  # they differ in what is not shown
        arms = [replace(arm, name=f"{name}: {arm.changes['adapter']}") if arm.name == name else arm for arm in arms]
    if image:
        arms.append(Arm("image", {"adapter": "none", "train_on": "image"}))
    if epochs:
        arms = [
            Arm(f"{arm.name}, {length:g} epochs", arm.changes | {"training": {"epochs": length}})
            for arm in arms
            for length in epochs
        ]
    return arms


def _label(stage: Any) -> str:
    if not isinstance(stage, dict) or len(stage) != 1:
        return str(stage)
    name, options = next(iter(stage.items()))
    if not isinstance(options, dict):
        return str(name) if options is None else f"{name} {options}"
    return " ".join([str(name), *(f"{key} {value}" for key, value in options.items() if key != "fit")])


def run_folder(base: Recipe, arm: Arm, seed: int, folder: Path) -> tuple[Recipe, Path]:
    """The recipe of one run, and where it lies: named by the arm, the seed and a hash of the recipe.

    Raises:
        RecipeError: the arm makes no recipe; it is named.
    """
    recipe = checked(_merge(base.dump(), arm.changes) | {"seed": seed}, f"arm {arm.name!r}")
    digest = hashlib.sha256(json.dumps(recipe.dump(), sort_keys=True).encode()).hexdigest()[:10]
    return recipe, folder / "runs" / f"{re.sub(r'[^-+.,=()A-Za-z0-9]', '_', arm.name)[:80]}-{seed}-{digest}"


def run_arm(
    base: Recipe,
    arm: Arm,
    seed: int,
    test: Path | None,
    folder: Path,
    *,
    select: Path | None = None,
    select_images: Path | None = None,
) -> dict[str, Any]:
    """Train and score one arm with one seed; what is done already is read, not done again.

    Returns:
        Score by name for images in ("image") and for text in ("text"), where there are test rows, and for texts that stand in for
        images ("selection"), where there are rows to select by and the arm is trained on text.
    """
    recipe, place = run_folder(base, arm, seed, folder)
    if not (place / RUN_FILE).is_file():
        train(recipe, place, resume=(place / "checkpoints").is_dir(), overwrite=not (place / "checkpoints").is_dir())
    scores = {}
    if test is not None:
        for modality in ("image", "text"):
            saved = place / "evaluations" / f"{test.stem}-{modality}" / "scores.json"
            if not (saved.is_file() and read_json(saved)["data_sha256"] == open_rows(test).sha256):
                evaluate(place, test, modality=modality, tokenizer="python")
            scores[modality] = _headlines(read_json(saved)["scores"])
    if select is not None and recipe.train_on == "text":
        scores["selection"] = _headlines(saved_selection(place, select, image=select_images)["scores"])
    return scores


def _headlines(scores: dict[str, Any]) -> dict[str, float]:
    """Scores that a sweep reports, where the evaluation has them; the first that it has is plotted."""
    keys = [score.key for score in METRICS.scores() if score.headline]
    return {key: scores[key] for key in keys if scores.get(key) is not None}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merged[key] | value if both else value
    return merged


def sweep(
    base: Recipe,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    test: str | Path | None,
    out: str | Path,
    *,
    select: str | Path | None = None,
    select_images: str | Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train and score every arm with every seed; a stopped sweep continues where it was.

    Writes `sweep.json`, `sweep.md` (the table) and `sweep.png` (the plot) after every run.

    Args:
        test: rows with images to score on; None where there are none.
        select: rows whose texts stand in for images (`close.study.selection`), to choose the best arm by.
        select_images: a table of unpaired images, which makes these stand-ins more like them.
    Returns:
        What `sweep.json` says: for each arm, score and modality the values, their mean and its 95 % interval over seeds
        (Student's t), and the recovered share (arm − none) / (image − none); with `select`, the arm `selected` by it.
    Raises:
        RecipeError: no seed or no arm, or nothing to score on.
    """
    if not arms or not seeds:
        raise RecipeError("a sweep needs at least one adapter and one seed")
    if test is None and select is None:
        raise RecipeError("a sweep scores on test rows with images, or selects by text, or both: give --test, --select")
    folder, data, chooser, images = Path(out), *(None if p is None else Path(p) for p in (test, select, select_images))
    _check(base, arms, seeds, folder, data, chooser, images)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, seed in enumerate(seeds):
        for place, arm in enumerate(arms):
            tell(f"run {number * len(arms) + place + 1} of {len(arms) * len(seeds)}: {arm.name}, seed {seed}")
            results.setdefault(arm.name, {"runs": []})["runs"].append(
                {"seed": seed, **run_arm(base, arm, seed, data, folder, select=chooser, select_images=images)}
            )
            summary = summarise(results)
            summary |= {"recipe": base.dump(), "arms": {arm.name: arm.changes for arm in arms}, "versions": versions()}
            _write(folder, summary)
    return summary


def _check(
    base: Recipe,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    folder: Path,
    test: Path | None,
    select: Path | None,
    select_images: Path | None,
) -> None:
    """Every arm as a whole recipe, and what it is scored on, before the first is trained."""
    names = [arm.name for arm in arms]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RecipeError(f"arm {twice[0]!r} is there twice; each has a name of its own")
    recipes = [run_folder(base, arm, seed, folder)[0] for arm in arms for seed in seeds][:: len(seeds)]
    files = [open_rows(part.train) for part in base.parts()]
    for arm, recipe in zip(arms, recipes, strict=True):
        if recipe.train_on == "image" and (without := [rows.path for rows in files if rows[0].image is None]):
            raise RecipeError(f"{without[0]}: no images to train the ceiling on; leave it out with --no-image")
        try:
            check_work(recipe, files, language_model=recipe is recipes[0])
        except DataError as error:
            raise DataError(f"arm {arm.name!r}: {error}") from None
    task = get_task(base.parts()[0].task)
    if test is not None:
        rows = open_rows(test)
        if lacking := next((row for row in rows if row.image is None or not task.source(row)), None):
            raise DataError(f"{rows.path}: row {lacking.id!r}: rows to score on have an 'image' and a 'source'")
    if select is not None:
        select_rows(open_rows(select), task)
    if select_images is not None:
        if select is None:
            raise RecipeError("--select-image goes with --select: images that the selection's texts are made like")
        open_vectors(select_images, "image")


def summarise(results: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Means with intervals over seeds, recovered shares, and what would be chosen by text alone."""
    table: dict[str, Any] = {}
    for name, arm in results.items():
        table[name] = {"seeds": [run["seed"] for run in arm["runs"]]}
        for modality in MODALITIES:
            if keys := arm["runs"][0].get(modality):
                table[name][modality] = {key: interval([run[modality][key] for run in arm["runs"]]) for key in keys}
    for name in table:
        if "none" in table and "image" in table and "image" in table[name]:
            table[name]["recovered_share"] = _recovered(results, name)
    return {"arms_scored": table} | _selected(table)


def _selected(table: dict[str, Any]) -> dict[str, Any]:
    """The arm chosen by stand-ins, and how much of the best score on images that gives."""
    able = {name: arm for name, arm in table.items() if "selection" in arm}
    if not able:
        return {}
    key = next(iter(next(iter(able.values()))["selection"]))
    name = best({name: arm["selection"][key]["values"] for name, arm in able.items()})
    if not all("image" in arm for arm in able.values()):
        return {"selected": {"arm": name, "by": key}}
    real = {name: arm["image"][key]["mean"] for name, arm in able.items()}
    top = max(real, key=lambda name: real[name])
    return {
        "selected": {"arm": name, "by": key, "score": real[name], "best": top, "best_score": real[top]}
        | {"share_of_best": real[name] / real[top] if real[top] > 0 else None}
    }


def _recovered(results: dict[str, Any], name: str) -> dict[str, Any]:
    """Of the mean scores: a ratio of single seeds would divide by noise."""
    shares = {}
    for key in results[name]["runs"][0]["image"]:
        arm, none, image = (
            float(np.mean([run["image"][key] for run in results[which]["runs"]])) for which in (name, "none", "image")
        )
        shares[key] = recovered_share(arm, none, image)
    return shares


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and the 95 % interval of the mean by Student's t; no interval for a single value."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else None
    return {"mean": mean, "ci": None if half is None else [mean - half, mean + half], "values": list(values)}


def _write(folder: Path, summary: dict[str, Any]) -> None:
    write_json(folder / "sweep.json", summary)
    write_text(folder / "sweep.md", table_of(summary))
    plot(summary, folder / "sweep.png")


def table_of(summary: dict[str, Any]) -> str:
    """The table as Markdown."""
    arms = summary["arms_scored"]
    first = next(iter(arms.values()))
    columns = [(modality, key) for modality in MODALITIES if modality in _union(arms) for key in _keys(arms, modality)]
    shares = list(first.get("recovered_share", {}))[:2]
    head = ["method", *(f"{key}, {MODALITIES[modality]}" for modality, key in columns)]
    head += [f"recovered {key}" for key in shares]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, arm in arms.items():
        cells = [name, *(cell(arm.get(modality, {}).get(key)) for modality, key in columns)]
        found = arm.get("recovered_share", {})
        cells += [f"{found[key]:.2f}" if found.get(key) is not None else "–" for key in shares]
        lines.append("| " + " | ".join(cells) + " |")
    if chosen := summary.get("selected"):
        lines += ["", f"Chosen by text: {chosen['arm']}" + _share_of_best(chosen)]
    return "\n".join(lines) + "\n"


def _union(arms: dict[str, Any]) -> set[str]:
    return {key for arm in arms.values() for key in arm}


def _keys(arms: dict[str, Any], modality: str) -> list[str]:
    """All scores for images in, the first one for the others."""
    keys = next(list(arm[modality]) for arm in arms.values() if modality in arm)
    return keys if modality == "image" else keys[:1]


def _share_of_best(chosen: dict[str, Any]) -> str:
    if chosen.get("share_of_best") is None:
        return ""
    return (
        f"; {chosen['by']} {chosen['score']:.1f} on images, {100 * chosen['share_of_best']:.1f} % of the best "
        f"({chosen['best']}: {chosen['best_score']:.1f})"
    )


def cell(score: Mapping[str, Any] | None) -> str:
    """`interval` as text: mean ± half the interval."""
    if score is None:
        return "–"
    return f"{score['mean']:.1f}" + (f" ± {score['ci'][1] - score['mean']:.1f}" if score["ci"] else "")


COLOURS = {"text": Colours.TEXT, "selection": Colours.PSEUDO_IMAGE, "image": Colours.IMAGE}


def plot(summary: dict[str, Any], path: Path) -> None:
    """The first score of every arm with its interval: images in, text in, and texts that stand in for images."""
    arms = summary["arms_scored"]
    shown = [modality for modality in COLOURS if modality in _union(arms)]
    key = _keys(arms, shown[-1])[0]
    drawn = figure(8, 1.4 + 0.42 * len(arms))
    axes = drawn.subplots()
    for place, modality in enumerate(shown):
        rows = [row for row, arm in enumerate(arms.values()) if modality in arm]
        scores = [arm[modality][key] for arm in arms.values() if modality in arm]
        means = [score["mean"] for score in scores]
        halves = [0 if score["ci"] is None else score["ci"][1] - score["mean"] for score in scores]
        heights = [row + 0.15 * (len(shown) - 1) - 0.3 * place for row in rows]
        look: dict[str, Any] = {"fmt": "o", "color": COLOURS[modality], "capsize": 3, "label": MODALITIES[modality]}
        axes.errorbar(means, heights, xerr=halves, **look)
    for name, style in (("none", ":"), ("image", "--")):
        if name in arms and "image" in arms[name]:
            axes.axvline(arms[name]["image"][key]["mean"], color=Colours.LINE, linestyle=style, linewidth=1)
    axes.set_yticks(range(len(arms)), list(arms))
    axes.invert_yaxis()
    axes.grid(axis="x", color=Colours.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    top = max(arm[modality][key]["mean"] for arm in arms.values() for modality in shown if modality in arm)
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, 0), min(high, 2 * top) if top > 0 else high)  # two seeds have intervals beyond any score
    axes.set_xlabel(f"{key}: mean and 95 % interval over seeds\nimages in: dotted no adapter, dashed trained on images")
    drawn.legend(loc="outside upper center", ncols=len(shown), frameon=False)
    save_png(drawn, path)
