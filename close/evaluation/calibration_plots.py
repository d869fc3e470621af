"""Reliability diagram and risk–coverage curve of a calibration, as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from close.io.plots import Colours, figure, save_png

__all__ = ["plot_reliability", "plot_risk"]

LINES = {"likelihood": "#2563c9", "cosine": "#c2620c", "both": "#0b7a5b"}


def plot_reliability(found: Mapping[str, Any], path: Path) -> None:
    """Confidence against the share that is right, a dot a bin, as large as the bin."""
    drawn = figure(4.4, 4.2)
    axes = drawn.subplots()
    bins = found["reliability"]
    axes.plot([0, 1], [0, 1], color=Colours.LINE, linewidth=0.8, linestyle="--")
    sizes = [20 + 300 * one["count"] / found["rows"]["measured_on"] for one in bins]
    axes.scatter(
        [one["confidence"] for one in bins], [one["right"] for one in bins], s=sizes, color=LINES["both"], zorder=3
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")
    error, chance = found["ece"]["value"], found["ece"]["by_chance"]["most"]
    title = f"{found['rows']['measured_on']} rows not learnt from; error {error:.3f} (chance alone: up to {chance:.3f})"
    axes.set_title(title, fontsize=8)
    axes.grid(color=Colours.GRID, linewidth=0.6)
    save_png(drawn, path)


def plot_risk(found: Mapping[str, Any], path: Path) -> None:
    """Risk of the surest outputs against how many are kept, a line a signal."""
    drawn = figure(5.0, 3.6)
    axes = drawn.subplots()
    for name, ranked in found["signals"].items():
        area = ranked["aurc"]["value"]
        label = f"{name} (area {area:.3f})" + (" ← confidence" if name == found["by"] else "")
        axes.plot(ranked["curve"]["coverage"], ranked["curve"]["risk"], color=LINES[name], linewidth=1.4, label=label)
    axes.axhline(1 - found["mean_right"], color=Colours.LINE, linewidth=0.8, linestyle="--", label="in no order")
    axes.set(
        xlim=(0, 1),
        ylim=(0, None),
        xlabel="coverage: share of outputs kept, surest first",
        ylabel="risk: share that is wrong",
    )
    axes.legend(frameon=False, fontsize=7)
    axes.grid(color=Colours.GRID, linewidth=0.6)
    save_png(drawn, path)
