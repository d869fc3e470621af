"""The report's drawings: inline SVG whose colours are the page's, so that they follow its light and dark dress."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import numpy as np

from close.gap.measured import Case
from close.gap.measures.loss_landscape import shift_landscape
from close.gap.measures.moments import mean_row
from close.gap.measures.residual import residual_eigenvalues
from close.gap.modalities import Sides
from close.vectors.checked import Array, Ints

__all__ = ["Picture", "cosines", "dimensions", "key", "landscape", "planes", "recalls", "spectrum"]

# Each stands for a CSS variable of the page; matplotlib only knows colours.
INK, MUTED, GRID, TEXT, IMAGE, PAIR, STRANGER = (f"#0100{n:02x}" for n in range(7))
CASES = tuple(f"#0200{n:02x}" for n in range(6))
VARIABLES = {
    **dict(
        zip(
            (INK, MUTED, GRID, TEXT, IMAGE, PAIR, STRANGER),
            ("ink", "muted", "grid", "text", "image", "pair", "stranger"),
            strict=True,
        )
    ),
    **{colour: f"case-{n}" for n, colour in enumerate(CASES)},
}
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
DRAWN = 300  # points a side in a picture
COUNTED = 20_000  # cosines in a histogram


class Picture(str):
    """SVG markup that goes into the page as it is."""

    def __html__(self) -> str:
        return self


def planes(cases: Sequence[Case], seed: int = 0) -> list[Picture]:
    """Texts and images of each case on a plane, to scale: along its gap, and along what varies most across it.

    A case behind an adapter is drawn on the first case's plane, so that the two can be laid side by side.
    """
    planes = [_plane(case.sides, seed) for case in cases]
    planes = [planes[0] if case.adapter is not None else plane for case, plane in zip(cases, planes, strict=True)]
    drawn = [_drawn(case.sides, plane, seed) for case, plane in zip(cases, planes, strict=True)]
    reach = 1.08 * max(float(np.abs(points).max()) for texts, images, _ in drawn for points in (texts, images))
    return [
        _svg((4.5, 4.5), _scatter(*points, reach), f"{case.name}: texts and images on a plane")
        for case, points in zip(cases, drawn, strict=True)
    ]


def _plane(sides: Sides, seed: int) -> tuple[Array, Array]:
    """(middle, (D, 2) axes): the gap's direction, and the main direction of both modalities across it."""
    texts, images = (rows[_some(len(rows), 2000, seed)].astype(np.float64) for rows in (sides.text, sides.image))
    centres = mean_row(sides.text), mean_row(sides.image)
    gap = centres[1] - centres[0]
    along = gap / max(float(np.linalg.norm(gap)), 1e-12)
    inside = np.concatenate((texts - centres[0], images - centres[1]))
    inside -= np.outer(inside @ along, along)
    across = np.linalg.eigh(inside.T @ inside)[1][:, -1]
    return (centres[0] + centres[1]) / 2, np.stack((along, across), axis=1)


def _drawn(sides: Sides, plane: tuple[Array, Array], seed: int) -> tuple[Array, Array, Array]:
    """Texts and images on the plane, and ends of lines between some pairs."""
    middle, axes = plane
    chosen = sides.pairs[_some(len(sides.pairs), DRAWN, seed)]
    if len(chosen):
        t, v = chosen.T
    else:
        t, v = (_some(len(rows), DRAWN, seed) for rows in (sides.text, sides.image))
    texts, images = ((rows[index] - middle) @ axes for rows, index in ((sides.text, t), (sides.image, v)))
    return texts, images, np.stack((texts, images), axis=1)[:40] if len(chosen) else np.empty((0, 2, 2))


def _scatter(texts: Array, images: Array, lines: Array, reach: float) -> Callable[[Any], None]:
    def paint(axes: Any) -> None:
        for line in lines:
            axes.plot(*line.T, color=MUTED, linewidth=0.5, alpha=0.45, zorder=1)
        for points, colour, marker, label in ((texts, TEXT, "o", "text"), (images, IMAGE, "D", "image")):
            axes.scatter(
                *points.T,
                s=9 if marker == "o" else 7,
                marker=marker,
                color=colour,
                alpha=0.6,
                linewidths=0,
                label=label,
            )
            axes.scatter(
                *points.mean(axis=0), s=70, marker=marker, color=colour, edgecolors=INK, linewidths=1.2, zorder=5
            )
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="along the gap", ylabel="across it")

    return paint


def cosines(cases: Sequence[Case], seed: int = 0) -> list[Picture]:
    """Histograms of the cosines of pairs, strangers, texts and images, for each case; cosines on one scale, heights not."""
    found = [_cosine_samples(case.sides, seed) for case in cases]
    low = min(-0.1, *(float(sample.min()) for samples in found for sample, _ in samples))
    return [
        _svg((4.5, 1.95), _histogram(samples, low), f"{case.name}: cosines")
        for case, samples in zip(cases, found, strict=True)
    ]


def _cosine_samples(sides: Sides, seed: int) -> list[tuple[Array, str]]:
    rng = np.random.default_rng(seed)

    def between(x: Array, y: Array, i: Ints, j: Ints) -> Array:
        return np.einsum("ij,ij->i", x[i], y[j])

    def strangers(x: Array, y: Array, same: bool) -> Array:
        i, j = (rng.integers(len(rows), size=COUNTED) for rows in (x, y))
        kept = i != j if same else sides.clusters[i] != j
        return between(x, y, i[kept], j[kept])

    chosen = sides.pairs[_some(len(sides.pairs), COUNTED, seed)]
    samples = [
        (strangers(sides.text, sides.image, False), STRANGER),
        (strangers(sides.text, sides.text, True), TEXT),
        (strangers(sides.image, sides.image, True), IMAGE),
    ]
    if len(chosen):
        samples.insert(0, (between(sides.text, sides.image, *chosen.T), PAIR))
    return samples


def _histogram(samples: Sequence[tuple[Array, str]], low: float) -> Callable[[Any], None]:
    def paint(axes: Any) -> None:
        bins = np.linspace(low, 1, 90 if min(len(sample) for sample, _ in samples) > 2000 else 50)
        for sample, colour in samples:
            height = np.histogram(sample, bins, density=True)[0]
            axes.stairs(height, bins, fill=True, color=colour, alpha=0.25)
            axes.stairs(height, bins, color=colour, linewidth=1.3)
        axes.set(xlim=(low, 1), yticks=[], xlabel="cosine")

    return paint


def dimensions(cases: Sequence[Case]) -> list[Picture]:
    """Δ_k of every dimension, for each case, on one scale; the five largest are named."""
    gaps = [mean_row(case.sides.image) - mean_row(case.sides.text) for case in cases]
    reach = 1.35 * max(float(np.abs(gap).max()) for gap in gaps)
    return [
        _svg((4.5, 1.75), _stems(gap, reach), f"{case.name}: gap by dimension")
        for case, gap in zip(cases, gaps, strict=True)
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


def spectrum(cases: Sequence[Case]) -> Picture | None:
    """Share of the residual's variance in its first directions, against isotropic noise's; None without pairs."""
    shown = _with_pairs(cases)
    if not shown:
        return None
    width = max(case.report.dim for _, case in shown)

    def paint(axes: Any) -> None:
        for place, case in shown:
            values = residual_eigenvalues(case.sides.joint)
            if values.sum() > 1e-12:
                axes.plot(np.arange(1, len(values) + 1), np.cumsum(values) / values.sum(), **_line(place))
        even = np.arange(1, width + 1)
        axes.plot(even, even / width, color=MUTED, linewidth=1, linestyle=":")
        axes.annotate("isotropic noise", (width / 4, 1 / 4), (-4, 2), ha="right", color=MUTED, **_SMALL)
        ticks = [tick for tick in (1, 3, 10, 30, 100, 300, 1000, 3000) if tick <= width]
        axes.set(xscale="log", ylim=(0, 1.02), xlabel="directions, largest first", ylabel="share of variance")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()

    return _svg((4.6, 2.9), paint, "Spectrum of the residual")


def landscape(cases: Sequence[Case], seed: int = 0) -> Picture | None:
    """Contrastive loss of the encoders themselves while the gap is closed; None without pairs."""
    shown = [(place, case) for place, case in _with_pairs(cases) if case.adapter is None]
    if not shown:
        return None

    def paint(axes: Any) -> None:
        for place, case in shown:
            found = shift_landscape(case.sides.text, case.sides.image, case.sides.pairs, seed=seed)
            axes.plot(found.shift, found.loss, **_line(place))
        for shift, label in ((0, "as it is"), (1, "gap closed")):
            axes.axvline(shift, color=MUTED, linewidth=0.8, linestyle=":")
            axes.annotate(label, (shift, 1), (3, -8), xycoords=("data", "axes fraction"), color=MUTED, **_SMALL)
        axes.set(xlabel="share of the gap taken away", ylabel="contrastive loss")

    return _svg((4.6, 2.9), paint, "Contrastive loss against a shift along the gap")


def _with_pairs(cases: Sequence[Case]) -> list[tuple[int, Case]]:
    """Cases that have pairs, each with its place among all, which gives its colour."""
    return [(place, case) for place, case in enumerate(cases) if len(case.sides.pairs) > 1]


def recalls(cases: Sequence[Case]) -> list[Picture]:
    """R@1, R@5, R@10 with intervals, one picture for each direction; none without pairs."""
    shown = _with_pairs(cases)
    directions = (("image_to_text", "image to text"), ("text_to_image", "text to image")) if shown else ()
    return [_svg((4.6, 2.3), _recall(shown, name), f"Recall, {label}") for name, label in directions]


def _recall(shown: Sequence[tuple[int, Case]], direction: str) -> Callable[[Any], None]:
    names = [f"recall.{direction}.at_{at}" for at in (1, 5, 10)]

    def paint(axes: Any) -> None:
        width = 0.8 / len(shown)
        for number, (place, case) in enumerate(shown):
            values = [float(case.report[name] or 0) for name in names]
            ends = [case.report.intervals.get(name, (value, value)) for name, value in zip(names, values, strict=True)]
            across = np.arange(3) + (number - (len(shown) - 1) / 2) * width
            axes.bar(across, values, 0.9 * width, color=CASES[place % len(CASES)], alpha=0.75)
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
    """CSS colour and SVG dash pattern of a case's lines, by its place."""
    dash = DASHES[place % len(DASHES)]
    return f"var(--{VARIABLES[CASES[place % len(CASES)]]})", "" if isinstance(dash, str) else " ".join(
        map(str, dash[1])
    )


def _line(place: int) -> dict[str, Any]:
    return {"color": CASES[place % len(CASES)], "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.6}


def _some(total: int, limit: int, seed: int) -> Ints:
    return np.sort(np.random.default_rng(seed).choice(total, min(total, limit), replace=False))


_SMALL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def _svg(size: tuple[float, float], paint: Callable[[Any], None], label: str) -> Picture:
    """One drawing as SVG that takes its colours, width and typeface from the page."""
    import warnings
    from html import escape

    from matplotlib import rc_context
    from matplotlib.figure import Figure

    out = StringIO()
    about = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({**STYLE, "svg.hashsalt": label}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that matplotlib's font lacks, the page's has
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        figure.savefig(out, format="svg", transparent=True, metadata=about)
    svg = out.getvalue()[out.getvalue().index("<svg") :]
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r' id="[a-z]+_?[\w]*_\d+"',
        r"font-family: [^;\"]*;? ?",
    ):
        svg = re.sub(pattern, "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    for colour, name in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Picture(svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))
