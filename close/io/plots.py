"""Drawings: figures saved whole as PNG, and SVG whose colours, width and typeface are the page's around it."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from close.io.files import whole

__all__ = [
    "GRID",
    "IMAGE",
    "INK",
    "MUTED",
    "PAIR",
    "SERIES",
    "STRANGER",
    "TEXT",
    "VARIABLES",
    "Colours",
    "Svg",
    "figure",
    "save_png",
    "svg",
]


class Colours:
    """Colours of figures that are saved as pictures."""

    TEXT, IMAGE, PSEUDO_IMAGE = "#9aa8bb", "#1f7a63", "#c58b2a"
    LINE, GRID = "#5d6b7e", "#e3e7ee"


# Colours of figures on a page: each stands for a CSS variable of it; matplotlib only knows colours.
INK, MUTED, GRID, TEXT, IMAGE, PAIR, STRANGER = (f"#0100{n:02x}" for n in range(7))
SERIES = tuple(f"#0200{n:02x}" for n in range(6))
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    TEXT: "text",
    IMAGE: "image",
    PAIR: "pair",
    STRANGER: "stranger",
    **{colour: f"case-{n}" for n, colour in enumerate(SERIES)},
}
"""Colour → the page's variable."""
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


class Svg(str):
    """SVG markup that goes into a page as it is."""

    def __html__(self) -> str:
        return self


def figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches, that needs no screen."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_png(drawn: Any, path: str | Path, dpi: int = 130) -> None:
    """Save a figure, whole or not at all."""
    with whole(path) as partial:
        drawn.savefig(partial, dpi=dpi, format="png")


def svg(size: tuple[float, float], paint: Callable[[Any], None], label: str) -> Svg:
    """One drawing as SVG, the same text for the same drawing.

    Args:
        size: width and height in inches. paint: draws on matplotlib's axes, in the colours of `VARIABLES`.
        label: what it shows, for those who do not see it.
    """
    import warnings
    from html import escape

    from matplotlib import rc_context

    out = StringIO()
    about = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({**STYLE, "svg.hashsalt": label}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that matplotlib's font lacks, the page's has
        drawn = figure(*size)
        paint(drawn.subplots())
        drawn.savefig(out, format="svg", transparent=True, metadata=about)
    markup = out.getvalue()[out.getvalue().index("<svg") :]
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r' id="[a-z]+_?[\w]*_\d+"',
        r"font-family: [^;\"]*;? ?",
    ):
        markup = re.sub(pattern, "", markup, flags=re.DOTALL)
    markup = re.sub(r' (?:width|height)="[\d.]+pt"', "", markup, count=2)
    for colour, name in VARIABLES.items():
        markup = markup.replace(colour, f"var(--{name})")
    return Svg(markup.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))
