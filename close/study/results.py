"""What a sweep found: means with intervals over seeds, shares recovered, and the plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from close.evaluation.metrics import METRICS
from close.evaluation.transfer import recovered_share
from close.io.plots import Colours, figure, save_png, save_vectors
from close.study.claims import claims
from close.study.export import FEW, MODALITIES, TOLD, drawn_score
from close.study.selection import best

__all__ = ["interval", "plot", "plot_methods", "summarise"]


def summarise(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means with intervals over seeds, recovered shares, and what would be chosen by text alone."""
    table: dict[str, Any] = {}
    for name, arm in results.items():
        table[name] = {key: arm[key] for key in ("method", "setting") if key in arm}
        table[name]["seeds"] = [run["seed"] for run in arm["runs"]]
        for modality in MODALITIES:
            if keys := arm["runs"][0].get(modality):
                table[name][modality] = {key: interval([run[modality][key] for run in arm["runs"]]) for key in keys}
        if "examples" in arm["runs"][0]:
            table[name]["examples"] = arm["runs"][0]["examples"]
        if all("length_ratio" in run for run in arm["runs"]):
            table[name]["length_ratio"] = float(np.mean([run["length_ratio"] for run in arm["runs"]]))
        if all("length" in run for run in arm["runs"]):
            table[name]["length_penalty"] = [run["length"]["penalty"] for run in arm["runs"]]
            table[name]["length_reached"] = all(run["length"]["reached"] for run in arm["runs"])
    places = {(arm.get("method", name), arm.get("setting")): name for name, arm in results.items()}
    for name, arm in table.items():
        ends = [places.get((end, arm.get("setting"))) for end in ("none", "image")]
        if None not in ends and "image" in arm:
            arm["recovered_share"] = _recovered(results, name, *map(str, ends))
    return {"arms_scored": table} | _selected(results) | _claims(results)


def _together(results: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The runs of these arms, of the seeds that all of them have: of a stopped sweep, some have more."""
    common = set.intersection(*({run["seed"] for run in results[name]["runs"]} for name in names))
    return {name: [run for run in results[name]["runs"] if run["seed"] in common] for name in names}


def _claims(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """For each score what may be claimed; nothing of a single method, or while runs of an arm are still to come."""
    methods: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, arm in results.items():
        methods.setdefault(arm.get("method", name), {})[arm.get("setting", "as it is")] = arm["runs"]
    cells = [runs for settings in methods.values() for runs in settings.values()]
    shapes = {tuple(settings) for settings in methods.values()}
    if len(shapes) > 1 or len({len(runs) for runs in cells}) > 1 or "image" not in cells[0][0]:
        return {}
    by = (
        next((by for by in ("tuning", "selection") if by in cells[0][0]), None) if len(next(iter(shapes))) > 1 else None
    )
    sides = ["image", *([by] if by else [])]
    # a ceiling that knows no text can't be tuned by it
    methods = {
        name: found for name, found in methods.items() if all(set(sides) <= set(runs[0]) for runs in found.values())
    }
    runs = [run for settings in methods.values() for cell in settings.values() for run in cell]
    able = [score for score in METRICS.scores() if all(score.key in run[side] for run in runs for side in sides)]
    if len(methods) < 2 or not able:
        return {}
    pairs, found = math.comb(len(methods), 2) * min(TOLD, len(able)), {}
    for score in able:
        test, *tuning = (
            {
                method: {setting: [run[side][score.key] for run in cell] for setting, cell in settings.items()}
                for method, settings in methods.items()
            }
            for side in sides
        )
        by_rows, better = (tuning[0] if tuning else None), score.higher_is_better
        found[score.key] = claims(test, by_rows, higher_is_better=better, comparisons=pairs)
    return {"claims": found}


def _selected(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The arm chosen by stand-ins, and how much of the best score on images that gives."""
    able = [name for name, arm in results.items() if arm["runs"][0].get("selection")]
    if not able or not all((runs := _together(results, able)).values()):
        return {}
    key = next(iter(runs[able[0]][0]["selection"]))
    better = METRICS.higher_is_better(key)
    name = best({name: [run["selection"][key] for run in own] for name, own in runs.items()}, higher_is_better=better)
    if not all(
        key in run.get("image", ()) for own in runs.values() for run in own
    ):  # nor where test rows are of another task
        return {"selected": {"arm": name, "by": key}}
    real = {name: float(np.mean([run["image"][key] for run in own])) for name, own in runs.items()}
    top = best({name: [mean] for name, mean in real.items()}, higher_is_better=better)
    return {
        "selected": {"arm": name, "by": key, "score": real[name], "best": top, "best_score": real[top]}
        | {"share_of_best": real[name] / real[top] if better and real[top] > 0 else None}
    }


def _recovered(results: Mapping[str, Any], name: str, none: str, image: str) -> dict[str, Any]:
    """Of the mean scores, where there is something to recover: a ratio of less than chance would divide by noise."""
    runs = _together(results, (name, none, image))
    shares: dict[str, float | None] = {}
    for key in results[name]["runs"][0]["image"] if all(runs.values()) else ():
        score, floor, ceiling = ([run["image"][key] for run in runs[one]] for one in (name, none, image))
        better, means = METRICS.higher_is_better(key), [float(np.mean(values)) for values in (score, floor, ceiling)]
        differ = _apart(floor, ceiling, 1 if better else -1)
        shares[key] = recovered_share(*means, higher_is_better=better) if differ else None
    return shares


def _apart(floor: Sequence[float], ceiling: Sequence[float], sign: int) -> bool:
    """Whether the ceiling is better by more than seeds make: by the paired interval; of two seeds, both beyond both.

    Of one seed whether it is better at all: what chance does, that can't tell.
    """
    if len(floor) < FEW:
        return min(sign * value for value in ceiling) > max(sign * value for value in floor)
    low, high = interval(np.subtract(ceiling, floor).tolist())["ci"]
    return bool((low if sign > 0 else -high) > 0)


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and the 95 % interval of the mean by Student's t; no interval for a single value."""
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n)) if n > 1 else None
    return {"mean": mean, "ci": None if half is None else [mean - half, mean + half], "values": list(values)}


SHADES = (Colours.IMAGE, Colours.TEXT, Colours.PSEUDO_IMAGE, "#8a5fbf", "#4f7d8c", "#a34a5a")
COLOURS = {"text": Colours.TEXT, "selection": Colours.PSEUDO_IMAGE, "image": Colours.IMAGE}


def plot(summary: dict[str, Any], path: Path) -> None:
    """The first score of every arm with its interval: images in, text in, and texts that stand in for images.

    Args:
        path: of a PNG; a PDF and an SVG are written beside it.
    """
    arms = summary["arms_scored"]
    shown, key = drawn_score(arms)
    drawn = figure(8, 1.4 + 0.42 * len(arms))
    axes = drawn.subplots()
    for place, modality in enumerate(shown):
        rows = [row for row, arm in enumerate(arms.values()) if modality in arm]
        scores = [arm[modality][key] for arm in arms.values() if modality in arm]
        means = [score["mean"] for score in scores]
        halves = [score["ci"][1] - score["mean"] if len(score["values"]) >= FEW else 0 for score in scores]
        heights = [row + 0.15 * (len(shown) - 1) - 0.3 * place for row in rows]
        look: dict[str, Any] = {"fmt": "o", "color": COLOURS[modality], "capsize": 3, "label": MODALITIES[modality]}
        axes.errorbar(means, heights, xerr=halves, **look)
        for score, height in zip(scores, heights, strict=True):
            if len(score["values"]) < FEW:
                axes.plot(score["values"], [height] * len(score["values"]), "|", color=COLOURS[modality], markersize=9)
    lines = [
        (name, style, label)
        for name, style, label in (("none", ":", "no adapter"), ("image", "--", "trained on images"))
        if "image" in arms.get(name, ())
    ]
    for name, style, label in lines:
        look = {"color": Colours.LINE, "linestyle": style, "linewidth": 1, "label": label}
        axes.axvline(arms[name]["image"][key]["mean"], **look)
    top = max(arm[modality][key]["mean"] for arm in arms.values() for modality in shown if modality in arm)
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, 0), min(high, 2 * top) if top > 0 else high)  # two seeds have intervals beyond any score
    _save(drawn, axes, list(arms), METRICS.score(key).label, path, ncols=len(shown) + len(lines))


def plot_methods(summary: dict[str, Any], path: Path) -> None:
    """The first score of methods in several settings: every run, the mean with its nested interval, and the tuned setting.

    Args:
        path: of a PNG; a PDF and an SVG are written beside it.
    """
    key, found = next(iter(summary["claims"].items()))
    settings, arms = found["settings"], summary["arms_scored"].values()
    drawn = figure(8, 1.6 + 0.25 * len(settings) + 0.55 * len(found["methods"]))
    axes = drawn.subplots()
    for row, (method, about) in enumerate(found["methods"].items()):
        for place, setting in enumerate(settings):
            arm = next(arm for arm in arms if (arm.get("method"), arm.get("setting")) == (method, setting))
            values = arm["image"][key]["values"]
            height, colour = row + 0.18 + 0.3 * place / len(settings), SHADES[place % len(SHADES)]
            label = setting if row == 0 else None
            axes.plot(values, [height] * len(values), "|", color=colour, markersize=8, label=label)
            if about.get("tuned", {}).get("setting") == setting:
                axes.plot([about["tuned"]["mean"]], [height], "D", color=colour, markersize=6)
        low, high = about["ci"] or (about["mean"], about["mean"])
        axes.errorbar(
            [about["mean"]],
            [row],
            xerr=[[about["mean"] - low], [high - about["mean"]]],
            fmt="o",
            color="#1d2733",
            capsize=3,
        )
    runs = [value for arm in arms for value in arm["image"][key]["values"]]
    room = 0.1 * (max(runs) - min(runs)) or 1.0
    axes.set_xlim(min(runs) - room, max(runs) + room)  # intervals over few settings are wider than all that was seen
    label = f"{METRICS.score(key).label}, {MODALITIES['image']}"
    _save(drawn, axes, list(found["methods"]), label, path, ncols=min(len(settings), 3), fontsize=8)


def _save(drawn: Any, axes: Any, rows: list[str], label: str, path: Path, **legend: Any) -> None:
    """The rows by name from above, what the scores are, a legend; as PNG, PDF and SVG."""
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.grid(axis="x", color=Colours.GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(label)
    drawn.legend(loc="outside upper center", frameon=False, **legend)
    save_png(drawn, path)
    save_vectors(drawn, path.with_suffix(""))
