"""Many ways across the gap in one comparison: adapters × noise × seeds, with intervals."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from close.errors import RecipeError
from close.evaluation.runs import evaluate
from close.files import read_json, write_json, write_text
from close.recipe import Recipe
from close.rows import RowFile
from close.runs import RUN_FILE, versions
from close.training import train

__all__ = ["Arm", "arms_of", "run_arm", "summarise", "sweep"]

HEADLINES = ("cider", "accuracy", "attribute_accuracy", "attribute_recall")
"""Scores that a sweep reports, where the evaluation has them; the first that it has is plotted."""


@dataclass(frozen=True)
class Arm:
    """One way to train: a name, and what differs from the base recipe."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)


def arms_of(adapters: Sequence[Any], noises: Sequence[float], *, image: bool = True) -> list[Arm]:
    """Every adapter at every noise, with the two that a comparison needs: `none` below and `image` above.

    Args:
        adapters: specs as in a recipe; "none" means noise alone.
        noises: cosines that the noise leaves; 1 means no noise.
        image: include the image-supervised ceiling.
    """
    arms = [Arm("none", {"adapter": "none", "train_on": "text"})]
    for spec in adapters:
        for cosine in noises:
            stages = [*(spec if isinstance(spec, list) else [spec])] + (
                [{"gaussian": {"cosine": cosine}}] if cosine < 1 else []
            )
            stages = [stage for stage in stages if stage != "none"]
            if stages:
                arms.append(Arm(" + ".join(_label(stage) for stage in stages), {"adapter": stages, "train_on": "text"}))
    if image:
        arms.append(Arm("image", {"adapter": "none", "train_on": "image"}))
    return list({arm.name: arm for arm in arms}.values())


def _label(stage: Any) -> str:
    if isinstance(stage, str):
        return stage
    name, options = next(iter(stage.items()))
    shown = {key: value for key, value in (options or {}).items() if key != "fit"} if isinstance(options, dict) else {}
    return name + (" " + " ".join(f"{key} {value}" for key, value in shown.items()) if shown else "")


def run_arm(base: Recipe, arm: Arm, seed: int, test: Path, folder: Path) -> dict[str, Any]:
    """Train and score one arm with one seed; what is done already is read, not done again.

    Returns:
        Score by name for images in ("image") and for text in ("text").
    """
    recipe = Recipe.model_validate(_merge(base.dump(), arm.changes) | {"seed": seed})
    digest = hashlib.sha256(json.dumps(recipe.dump(), sort_keys=True).encode()).hexdigest()[:10]
    place = folder / "runs" / f"{arm.name.replace(' ', '_').replace('/', '-')}-{seed}-{digest}"
    if not (place / RUN_FILE).is_file():
        train(recipe, place, resume=(place / "checkpoints").is_dir(), overwrite=not (place / "checkpoints").is_dir())
    scores = {}
    for modality in ("image", "text"):
        saved = place / "evaluations" / f"{test.stem}-{modality}" / "scores.json"
        if not (saved.is_file() and read_json(saved)["data_sha256"] == RowFile(test).sha256):
            evaluate(place, test, modality=modality, tokenizer="python")
        found = read_json(saved)["scores"]
        scores[modality] = {key: found[key] for key in HEADLINES if found.get(key) is not None}
    return scores


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
    test: str | Path,
    out: str | Path,
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train and score every arm with every seed; a stopped sweep continues where it was.

    Writes `sweep.json`, `sweep.md` (the table) and `sweep.png` (the plot) after every run.

    Returns:
        What `sweep.json` says: for each arm, score and modality the values, their mean and its 95 % interval over seeds
        (Student's t), and the recovered share (arm − none) / (image − none).
    Raises:
        RecipeError: no seed or no arm.
    """
    if not arms or not seeds:
        raise RecipeError("a sweep needs at least one adapter and one seed")
    folder, data = Path(out), Path(test)
    RowFile(data)
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number, seed in enumerate(seeds):
        for place, arm in enumerate(arms):
            tell(f"run {number * len(arms) + place + 1} of {len(arms) * len(seeds)}: {arm.name}, seed {seed}")
            results.setdefault(arm.name, {"runs": []})["runs"].append(
                {"seed": seed, **run_arm(base, arm, seed, data, folder)}
            )
            summary = summarise(results)
            summary |= {"recipe": base.dump(), "arms": {arm.name: arm.changes for arm in arms}, "versions": versions()}
            _write(folder, summary)
    return summary


def summarise(results: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Means with intervals over seeds, and recovered shares."""
    table: dict[str, Any] = {}
    for name, arm in results.items():
        table[name] = {"seeds": [run["seed"] for run in arm["runs"]]}
        for modality in ("image", "text"):
            keys = arm["runs"][0][modality]
            table[name][modality] = {key: interval([run[modality][key] for run in arm["runs"]]) for key in keys}
    for name in table:
        if "none" in table and "image" in table:
            table[name]["recovered_share"] = _recovered(results, name)
    return {"arms_scored": table}


def _recovered(results: dict[str, Any], name: str) -> dict[str, Any]:
    """Of the mean scores: a ratio of single seeds would divide by noise."""
    shares = {}
    for key in results[name]["runs"][0]["image"]:
        arm, none, image = (
            float(np.mean([run["image"][key] for run in results[which]["runs"]])) for which in (name, "none", "image")
        )
        shares[key] = None if image == none else (arm - none) / (image - none)
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
    keys = list(next(iter(arms.values()))["image"])
    head = [
        "method",
        *(f"{key}, images in" for key in keys),
        f"{keys[0]}, text in",
        *(f"recovered {key}" for key in keys[:2]),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, arm in arms.items():
        cells = [name, *(_cell(arm["image"][key]) for key in keys), _cell(arm["text"][keys[0]])]
        shares = arm.get("recovered_share", {})
        cells += [f"{shares[key]:.2f}" if shares.get(key) is not None else "–" for key in keys[:2]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(score: dict[str, Any]) -> str:
    return f"{score['mean']:.1f}" + (f" ± {score['ci'][1] - score['mean']:.1f}" if score["ci"] else "")


def plot(summary: dict[str, Any], path: Path) -> None:
    """The first score of every arm with its interval: images in, and text in."""
    from matplotlib.figure import Figure

    arms = summary["arms_scored"]
    key = next(iter(next(iter(arms.values()))["image"]))
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(arms)), layout="constrained")
    axes = figure.subplots()
    for modality, colour, shift in (("text", "#9aa8bb", 0.15), ("image", "#1f7a63", -0.15)):
        for row, arm in enumerate(arms.values()):
            score = arm[modality][key]
            half = 0 if score["ci"] is None else score["ci"][1] - score["mean"]
            axes.errorbar(
                score["mean"],
                row + shift,
                xerr=half,
                fmt="o",
                color=colour,
                capsize=3,
                label=f"{modality}s in" if row == 0 else None,
            )
    for name, style in (("none", ":"), ("image", "--")):
        if name in arms:
            axes.axvline(arms[name]["image"][key]["mean"], color="#5d6b7e", linestyle=style, linewidth=1)
    axes.set_yticks(range(len(arms)), list(arms))
    axes.invert_yaxis()
    axes.set_xlabel(f"{key} (mean and 95 % interval over seeds; dotted: no adapter, dashed: trained on images)")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def parse_spec(text: str) -> Any:
    """An adapter spec from a command line: YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(
            f"adapter {text!r} is not YAML; e.g. mean_shift, or '{{mean_shift: {{fit: {{…}}}}}}'"
        ) from None
