"""The report's drawings: inline SVG whose colours are the page's, so that they follow its light and dark dress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from close.gap.measured_tables import MeasuredTables
from close.gap.measures.residual import residual_eigenvalues
from close.gap.measures.shifted_loss import shifted_loss
from close.gap.modalities import Modalities
from close.io.plots import IMAGE, INK, MUTED, PAIR, SERIES, STRANGER, TEXT, VARIABLES, Svg, svg
from close.vectors.checked import Array, Ints
from close.vectors.second_moments import mean_row

__all__ = [
    "cosines",
    "dimensions",
    "key",
    "planes",
    "recalls",
    "save_figures",
    "searches",
    "shifted_losses",
    "spectrum",
]

DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
DRAWN = 300  # points a side in a picture
COUNTED = 20_000  # cosines in a histogram


def planes(measured: Sequence[MeasuredTables], seed: int = 0) -> list[Svg]:
    """Texts and images of each pair of tables on a plane, to scale: along their gap, and along what varies most across it.

    Tables behind an adapter are drawn on the first tables' plane, so that the two can be laid side by side.
    """
    planes = [_plane(tables.modalities, seed) for tables in measured]
    planes = [
        planes[0] if tables.adapter is not None else plane for tables, plane in zip(measured, planes, strict=True)
    ]
    drawn = [_drawn(tables.modalities, plane, seed) for tables, plane in zip(measured, planes, strict=True)]
    reach = 1.08 * max(float(np.abs(points).max()) for texts, images, *_ in drawn for points in (texts, images))
    return [
        svg((4.5, 4.5), _scatter(*points, reach), f"{tables.name}: texts and images on a plane")
        for tables, points in zip(measured, drawn, strict=True)
    ]


def _plane(modalities: Modalities, seed: int) -> tuple[Array, Array]:
    """(middle, (D, 2) axes): the gap's direction, and the main direction of both modalities across it."""
    texts, images = (
        rows[_some(len(rows), 2000, seed)].astype(np.float64) for rows in (modalities.text, modalities.image)
    )
    centres = mean_row(modalities.text), mean_row(modalities.image)
    gap = centres[1] - centres[0]
    along = gap / max(float(np.linalg.norm(gap)), 1e-12)
    inside = np.concatenate((texts - centres[0], images - centres[1]))
    inside -= np.outer(inside @ along, along)
    across = np.linalg.eigh(inside.T @ inside)[1][:, -1]
    return (centres[0] + centres[1]) / 2, np.stack((along, across), axis=1)


def _drawn(modalities: Modalities, plane: tuple[Array, Array], seed: int) -> tuple[Array, Array, Array, Array]:
    """Texts and images on the plane, ends of lines between some pairs, and the means of all texts and of all images."""
    middle, axes = plane
    chosen = modalities.pairs[_some(len(modalities.pairs), DRAWN, seed)]
    if len(chosen):
        t, v = chosen.T
    else:
        t, v = (_some(len(rows), DRAWN, seed) for rows in (modalities.text, modalities.image))
    texts, images = ((rows[index] - middle) @ axes for rows, index in ((modalities.text, t), (modalities.image, v)))
    lines = np.stack((texts, images), axis=1)[:40] if len(chosen) else np.empty((0, 2, 2))
    means = np.stack([(mean_row(rows) - middle) @ axes for rows in (modalities.text, modalities.image)])
    return texts, images, lines, means


def _scatter(texts: Array, images: Array, lines: Array, means: Array, reach: float) -> Callable[[Any], None]:
    def paint(axes: Any) -> None:
        for line in lines:
            axes.plot(*line.T, color=MUTED, linewidth=0.5, alpha=0.45, zorder=1)
        sides = (texts, means[0], TEXT, "o", "text"), (images, means[1], IMAGE, "D", "image")
        for points, mean, colour, marker, label in sides:
            axes.scatter(
                *points.T,
                s=9 if marker == "o" else 7,
                marker=marker,
                color=colour,
                alpha=0.6,
                linewidths=0,
                label=label,
            )
            axes.scatter(*mean, s=70, marker=marker, color=colour, edgecolors=INK, linewidths=1.2, zorder=5)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="along the gap", ylabel="across it")

    return paint


def cosines(measured: Sequence[MeasuredTables], seed: int = 0) -> list[Svg]:
    """Histograms of the cosines of pairs, strangers, texts and images, one a pair of tables; the cosines are on one scale."""
    found = [_cosine_samples(tables.modalities, seed) for tables in measured]
    low = min(-0.1, *(float(sample.min()) for samples in found for sample, _ in samples))
    return [
        svg((4.5, 1.95), _histogram(samples, low), f"{tables.name}: cosines")
        for tables, samples in zip(measured, found, strict=True)
    ]


def _cosine_samples(modalities: Modalities, seed: int) -> list[tuple[Array, str]]:
    rng = np.random.default_rng(seed)

    def between(x: Array, y: Array, i: Ints, j: Ints) -> Array:
        return np.einsum("ij,ij->i", x[i], y[j])

    def strangers(x: Array, y: Array, same: bool) -> Array:
        i, j = (rng.integers(len(rows), size=COUNTED) for rows in (x, y))
        kept = i != j if same else ~np.isin(i * len(y) + j, modalities.pairs @ (len(y), 1))
        return between(x, y, i[kept], j[kept])

    chosen = modalities.pairs[_some(len(modalities.pairs), COUNTED, seed)]
    samples = [
        (strangers(modalities.text, modalities.image, False), STRANGER),
        (strangers(modalities.text, modalities.text, True), TEXT),
        (strangers(modalities.image, modalities.image, True), IMAGE),
    ]
    if len(chosen):
        samples.insert(0, (between(modalities.text, modalities.image, *chosen.T), PAIR))
    return samples


def _histogram(samples: Sequence[tuple[Array, str]], low: float) -> Callable[[Any], None]:
    def paint(axes: Any) -> None:
        bins = np.linspace(low, 1, 90 if min(len(sample) for sample, _ in samples) > 2000 else 50)
        for sample, colour in samples:
            height = np.histogram(sample, bins, density=True)[0]
            axes.stairs(height, bins, fill=True, color=colour, alpha=0.25)
            axes.stairs(height, bins, color=colour, linewidth=1.3, label=_KINDS[colour])
        axes.set(xlim=(low, 1), yticks=[], xlabel="cosine")

    return paint


def dimensions(measured: Sequence[MeasuredTables]) -> list[Svg]:
    """Δ_k of every dimension, for each pair of tables, on one scale; the five largest are named."""
    gaps = [mean_row(tables.modalities.image) - mean_row(tables.modalities.text) for tables in measured]
    reach = 1.35 * max(float(np.abs(gap).max()) for gap in gaps)
    return [
        svg((4.5, 1.75), _stems(gap, reach), f"{tables.name}: gap by dimension")
        for tables, gap in zip(measured, gaps, strict=True)
    ]


def _stems(gap: Array, reach: float) -> Callable[[Any], None]:
    def paint(axes: Any) -> None:
        axes.vlines(np.arange(len(gap)), 0, gap, color=IMAGE, linewidth=max(0.5, 150 / len(gap)))
        axes.axhline(0, color=MUTED, linewidth=0.6)
        for k in np.argsort(-np.abs(gap))[:5]:
            if abs(gap[k]) > 0.1 * reach:
                axes.annotate(
                    str(k),
                    (k, gap[k]),
                    (0, 3 if gap[k] > 0 else -9),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                )
        axes.set(xlim=(-1, len(gap)), ylim=(-reach, reach), xlabel="dimension", ylabel="image − text")

    return paint


def spectrum(measured: Sequence[MeasuredTables]) -> Svg | None:
    """Share of the residual's variance in its first directions, against isotropic noise's; None without pairs."""
    shown = _with_pairs(measured)
    if not shown:
        return None
    width = max(tables.report.dim for _, tables in shown)

    def paint(axes: Any) -> None:
        for place, tables in shown:
            values = residual_eigenvalues(tables.modalities.joint)
            if values.sum() > 1e-12:
                axes.plot(
                    np.arange(1, len(values) + 1), np.cumsum(values) / values.sum(), label=tables.name, **_line(place)
                )
        even = np.arange(1, width + 1)
        axes.plot(even, even / width, color=MUTED, linewidth=1, linestyle=":")
        axes.annotate("isotropic noise", (width / 4, 1 / 4), (-4, 2), ha="right", color=MUTED, **_SMALL)
        ticks = [tick for tick in (1, 3, 10, 30, 100, 300, 1000, 3000) if tick <= width]
        axes.set(xscale="log", ylim=(0, 1.02), xlabel="directions, largest first", ylabel="share of variance")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()

    return svg((4.6, 2.9), paint, "Spectrum of the residual")


def shifted_losses(measured: Sequence[MeasuredTables], seed: int = 0) -> Svg | None:
    """Contrastive loss of the encoders themselves while the gap is closed; None without pairs."""
    shown = [(place, tables) for place, tables in _with_pairs(measured) if tables.adapter is None]
    if not shown:
        return None

    def paint(axes: Any) -> None:
        for place, tables in shown:
            found = shifted_loss(tables.modalities.text, tables.modalities.image, tables.modalities.pairs, seed=seed)
            axes.plot(found.shift, found.loss, label=tables.name, **_line(place))
        for shift, label in ((0, "as it is"), (1, "gap closed")):
            axes.axvline(shift, color=MUTED, linewidth=0.8, linestyle=":")
            axes.annotate(label, (shift, 1), (3, -8), xycoords=("data", "axes fraction"), color=MUTED, **_SMALL)
        axes.set(xlabel="share of the gap taken away", ylabel="contrastive loss")

    return svg((4.6, 2.9), paint, "Contrastive loss against a shift along the gap")


def searches(measured: Sequence[MeasuredTables]) -> Svg | None:
    """How near a caption what is found lies, over the search's noise, and where images find as near ones; None without pairs."""
    shown = [(place, tables) for place, tables in _with_pairs(measured) if "search" in tables.report.curves]
    if not shown:
        return None

    def paint(axes: Any) -> None:
        for place, tables in shown:
            curve, line = tables.modalities.search, _line(place)
            angles = np.degrees(np.arccos(curve.cosine))
            axes.plot(angles, curve.nearness, label=tables.name, **line)
            axes.plot(angles, curve.overlap, **line | {"linewidth": 0.8, "alpha": 0.7})
            at = angles[-1] if curve.noise is None else float(np.degrees(np.arccos(curve.noise)))
            axes.plot([0, at], [curve.image_nearness] * 2, color=line["color"], linewidth=0.8, linestyle=":")
            if curve.noise is not None:
                axes.plot([at], [curve.image_nearness], marker="o", color=line["color"])
                axes.annotate(f"{curve.noise:.2f}", (at, curve.image_nearness), (4, 4), **_SMALL)
        first = shown[0][1].modalities.search
        axes.annotate("nearness to the caption", (0, first.nearness[0]), (4, 5), color=MUTED, **_SMALL)
        axes.annotate("found by the image too", (0, first.overlap[0]), (4, 5), color=MUTED, **_SMALL)
        ticks = (0, 18, 36, 54, 72)
        axes.set_xticks(ticks, [f"{np.cos(np.radians(tick)):.2f}" for tick in ticks])
        axes.set(ylim=(0, 1.05), xlabel="noise of the search, as a cosine")

    return svg((4.6, 2.9), paint, "Search among texts, over noise")


def _with_pairs(measured: Sequence[MeasuredTables]) -> list[tuple[int, MeasuredTables]]:
    """Tables that have pairs, each with their place among all, which gives their colour."""
    return [(place, tables) for place, tables in enumerate(measured) if len(tables.modalities.pairs) > 1]


def recalls(measured: Sequence[MeasuredTables]) -> list[Svg]:
    """R@1, R@5, R@10 with intervals, one picture for each direction; only of tables that have them (not behind a memory)."""
    first = "recall.image_to_text.at_1"
    shown = [(place, tables) for place, tables in _with_pairs(measured) if tables.report[first] is not None]
    directions = (("image_to_text", "image to text"), ("text_to_image", "text to image")) if shown else ()
    return [svg((4.6, 2.3), _recall(shown, name), f"Recall, {label}") for name, label in directions]


def _recall(shown: Sequence[tuple[int, MeasuredTables]], direction: str) -> Callable[[Any], None]:
    names = [f"recall.{direction}.at_{at}" for at in (1, 5, 10)]

    def paint(axes: Any) -> None:
        width = 0.8 / len(shown)
        for number, (place, tables) in enumerate(shown):
            values = [tables.report[name] or 0.0 for name in names]
            ends = [
                tables.report.intervals.get(name, (value, value)) for name, value in zip(names, values, strict=True)
            ]
            across = np.arange(3) + (number - (len(shown) - 1) / 2) * width
            axes.bar(across, values, 0.9 * width, color=SERIES[place % len(SERIES)], alpha=0.75, label=tables.name)
            axes.vlines(across, *zip(*ends, strict=True), color=INK, linewidth=0.9)
            if len(shown) < 4:
                for x, value, (_, top) in zip(across, values, ends, strict=True):
                    axes.annotate(f"{value:.0%}", (x, top), (0, 2), ha="center", **_SMALL)
        axes.set(
            xticks=range(3), xticklabels=["R@1", "R@5", "R@10"], ylim=(0, 1.12), ylabel=direction.replace("_", " ")
        )
        axes.set_yticks((0, 0.5, 1), ("0", "50 %", "100 %"))

    return paint


def key(place: int) -> tuple[str, str]:
    """CSS colour and SVG dash pattern of tables' lines, by their place."""
    dash = DASHES[place % len(DASHES)]
    return f"var(--{VARIABLES[SERIES[place % len(SERIES)]]})", "" if isinstance(dash, str) else " ".join(
        map(str, dash[1])
    )


def _line(place: int) -> dict[str, Any]:
    return {"color": SERIES[place % len(SERIES)], "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.6}


def save_figures(measured: Sequence[MeasuredTables], folder: Path, seed: int = 0) -> list[Path]:
    """Every drawing of the report as PDF and SVG for print; returns the files."""
    drawn: dict[str, list[Svg]] = {
        "plane": planes(measured, seed),
        "cosines": cosines(measured, seed),
        "dimensions": dimensions(measured),
        "spectrum": [made] if (made := spectrum(measured)) else [],
        "shifted-loss": [made] if (made := shifted_losses(measured, seed)) else [],
        "recall": recalls(measured),
        "search": [made] if (made := searches(measured)) else [],
    }
    return [
        path
        for name, pictures in drawn.items()
        for number, picture in enumerate(pictures, 1)
        for path in picture.drawing.save(folder / (f"{name}-{number}" if len(pictures) > 1 else name))
    ]


def _some(total: int, limit: int, seed: int) -> Ints:
    return np.sort(np.random.default_rng(seed).choice(total, min(total, limit), replace=False))


_KINDS = {PAIR: "pairs", STRANGER: "strangers", TEXT: "two texts", IMAGE: "two images"}
_SMALL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7}
