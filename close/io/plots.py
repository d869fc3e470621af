"""Drawings: figures saved whole as PNG, and SVG whose colours, width and typeface are the page's around it, or for print."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np

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
    "Drawing",
    "Svg",
    "figure",
    "save_png",
    "save_vectors",
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
_LIGHT = "1c2230 6b7280 e4e2dc c2620c 2563c9 0b7a5b 7a8090 2563c9 c2620c 0b7a5b 8b3fc2 b3274f 5b6470"
PRINTED = {colour: f"#{light}" for colour, light in zip(VARIABLES, _LIGHT.split(), strict=True)}
"""Colour → the page's in its light dress, for a figure that stands alone."""
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
    """SVG markup that goes into a page as it is, and the drawing behind it."""

    drawing: Drawing

    def __html__(self) -> str:
        return self


@dataclass(frozen=True)
class Drawing:
    """One figure, before it is drawn; arguments are `svg`'s."""

    size: tuple[float, float]
    paint: Callable[[Any], None]
    label: str

    def figure(self) -> Any:
        """Drawn, in the colours of `VARIABLES`."""
        drawn = figure(*self.size)
        self.paint(drawn.subplots())
        return drawn

    def save(self, stem: Path) -> list[Path]:
        """Write `stem`.pdf and `stem`.svg in the colours of print, with a legend where there are several series."""
        with _drawing_style(self.label):
            drawn = self.figure()
            (axes,) = drawn.axes
            if len(axes.get_legend_handles_labels()[1]) > 1:
                axes.legend(frameon=False, fontsize=7)
            for artist in drawn.findobj():
                _in_print(artist)
            return save_vectors(drawn, stem)


def _in_print(artist: Any) -> None:
    """Give an artist's colours those of print."""
    from matplotlib.colors import to_hex

    for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
        found = getattr(artist, f"get_{name}", lambda: None)()
        if (
            found is None
            or not hasattr(artist, f"set_{name}")
            or (isinstance(found, str) and found in ("auto", "none"))
        ):
            continue
        rows = [found] if isinstance(found, str) or np.ndim(found) == 1 else list(found)
        printed = [PRINTED.get(to_hex(row)) for row in rows]
        if printed and all(printed):
            getattr(artist, f"set_{name}")(printed if len(printed) > 1 else printed[0])


def figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches, that needs no screen."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_png(drawn: Any, path: str | Path, dpi: int = 130) -> None:
    """Save a figure, whole or not at all."""
    _save(drawn, Path(path), dpi=dpi)


def save_vectors(drawn: Any, stem: Path) -> list[Path]:
    """Save a figure as `stem`.pdf and `stem`.svg, each whole or not at all; the same bytes for the same figure."""
    from matplotlib import rc_context

    files = [stem.parent / f"{stem.name}.{kind}" for kind in ("pdf", "svg")]
    for path in files:
        about = {"Creator": None, "CreationDate" if path.suffix == ".pdf" else "Date": None}
        with rc_context({"svg.hashsalt": stem.name}):
            _save(drawn, path, metadata=about)
    return files


def _save(drawn: Any, path: Path, **options: Any) -> None:
    """In one write: matplotlib writes an SVG in thousands."""
    made = BytesIO()
    drawn.savefig(made, format=path.suffix[1:], **options)
    with whole(path) as partial:
        partial.write_bytes(made.getvalue())


def svg(size: tuple[float, float], paint: Callable[[Any], None], label: str) -> Svg:
    """One drawing as SVG, the same text for the same drawing.

    Args:
        size: width and height in inches. paint: draws on matplotlib's axes, in the colours of `VARIABLES`.
        label: what it shows, for those who do not see it.
    """
    from html import escape

    drawing, out = Drawing(size, paint, label), StringIO()
    about = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _drawing_style(label):
        drawing.figure().savefig(out, format="svg", transparent=True, metadata=about)
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
    made = Svg(markup.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1))
    made.drawing = drawing
    return made


@contextmanager
def _drawing_style(label: str) -> Iterator[None]:
    import warnings

    from matplotlib import rc_context

    with rc_context({**STYLE, "svg.hashsalt": label}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a glyph that matplotlib's font lacks, the page's has
        yield
