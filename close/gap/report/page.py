"""The gap report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape

from close.errors import CloseError
from close.gap.measure import GapReport
from close.gap.measured_tables import MeasuredTables
from close.gap.measures import MEASURES, Measure
from close.gap.report import figures
from close.gap.report.words import constant_share, verdict
from close.io.versions import own_version

__all__ = ["render_html"]

TILES = (
    ("centroid_gap", "Centroid gap", "Between the mean text and the mean image."),
    ("rmg", "Relative gap", "Pairs against strangers of one modality: 0.5 is as far."),
    ("cosine.paired.mean", "Cosine of pairs", "Between a text and its own image."),
    ("separability", "Separability", "How well a straight cut tells text from image."),
    ("recall.image_to_text.at_1", "Image to text, R@1", "Share of images whose own text comes first."),
    ("noise.cosine", "Noise, as a cosine", "Noise as long as what a shift leaves over."),
)
BESIDE = (
    ("centroid_gap", "Centroid gap"),
    ("rmg", "Relative gap"),
    ("cosine.paired.mean", "Cosine, pairs"),
    ("cosine.unpaired.mean", "strangers"),
    ("separability", "Separability"),
    ("residual.norm", "Residual"),
    ("recall.image_to_text.at_1", "R@1"),
    ("neighbour_agreement", "Neighbours"),
    ("noise.cosine", "Noise"),
)
EXAMPLES, NEAREST, THUMBNAIL = 8, 5, 220


def render_html(measured: Sequence[MeasuredTables], *, seed: int = 0) -> str:
    """The report of measured cases, the first in the lead.

    Every string from data is escaped, nothing is loaded from anywhere, and no script runs. Drawings and examples are of samples
    drawn with `seed`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    first = measured[0]
    env = Environment(
        loader=PackageLoader("close.gap.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": number, "formula": formula}
    return env.get_template("page.html.j2").render(
        measured=measured,
        first=first,
        verdict=verdict(first.report),
        share=constant_share(first.report),
        tiles=[
            _Tile(MEASURES[name], value, first.report.intervals.get(name), title, sentence)
            for name, title, sentence in TILES
            if (value := first.report[name]) is not None
        ],
        beside=BESIDE,
        headlines=[verdict(tables.report).headline for tables in measured],
        keys=[figures.key(place) for place in range(len(measured))],
        panels=[
            {"tables": tables, "plane": plane, "cosines": cosines, "dimensions": dimensions}
            for tables, plane, cosines, dimensions in zip(
                measured,
                figures.planes(measured, seed),
                figures.cosines(measured, seed),
                figures.dimensions(measured),
                strict=True,
            )
        ],
        spectrum=figures.spectrum(measured),
        shifted_loss=figures.shifted_losses(measured, seed),
        recalls=figures.recalls(measured),
        searches=figures.searches(measured),
        examples=list(_examples(first, seed)),
        families=[(family, list(group)) for family, group in groupby(MEASURES, key=lambda measure: measure.family)],
        remarks=[
            (tables, _remarks(tables.report, () if tables is first else first.report.notes.items()))
            for tables in measured
        ],
        version=own_version(),
        seed=seed,
    )


def number(value: float | None) -> str:
    """Three significant digits, one if it is tiny, with a true minus; a dash for None."""
    if value is None:
        return "–"
    if abs(value) < 1e-5:
        return "0" if value == 0 else "≈ 0"
    digits = f"{value:#.3g}".rstrip(".") if abs(value) >= 1e-3 else f"{value:.1g}"
    return (digits if abs(value) < 1000 else f"{value:,.0f}").replace("-", "−")


def formula(text: str) -> Markup:
    """A formula with its indices set low."""
    return Markup(re.sub(r"_\{?([\w+]+)\}?", r"<sub>\1</sub>", str(escape(text))))


@dataclass(frozen=True)
class _Tile:
    """A headline number on its scale; places are in percent of the track."""

    measure: Measure
    value: float
    interval: tuple[float, float] | None
    title: str
    sentence: str

    def place(self, value: float | None, default: float = 0.0) -> float:
        """Where a value lies on the track."""
        if value is None:
            return default
        start, end = self.measure.scale or (0.0, 1.0)
        return round(100 * min(max((value - start) / (end - start), 0.0), 1.0), 2)

    @property
    def band(self) -> tuple[float, float] | None:
        """The healthy range on the track."""
        if not self.measure.has_range:
            return None
        return self.place(self.measure.low, 0.0), self.place(self.measure.high, 100.0)


@dataclass(frozen=True)
class _Answer:
    """A text among the nearest of an image."""

    caption: str
    cosine: float
    right: bool


@dataclass(frozen=True)
class _Example:
    """An image, its own texts, and the nearest texts."""

    name: str
    picture: str | None
    own: list[str]
    answers: list[_Answer]


def _examples(tables: MeasuredTables, seed: int) -> Iterator[_Example]:
    """Images found and images missed, half and half where there are both; none where there is nothing to read."""
    if not tables.captions and tables.names[0] is None:
        return
    modalities, rng = tables.modalities, np.random.default_rng(seed)
    neighbours = modalities.neighbours
    known = np.arange(len(modalities.image)) if neighbours.images is None else neighbours.images
    place = dict(zip(known.tolist(), neighbours.texts_of_image[:, :NEAREST], strict=True))
    asked, ranks = modalities.hit_ranks[0] if len(modalities.pairs) else (known, np.ones(len(known)))
    hit = ranks == 0
    found, missed = (rng.permutation(asked[hit == side]) for side in (True, False))
    half = max(EXAMPLES // 2, EXAMPLES - len(missed))
    for v in [*found[:half].tolist(), *missed[: EXAMPLES - min(half, len(found))].tolist()]:
        row, own = int(modalities.image_rows[v]), modalities.pairs[modalities.pairs[:, 1] == v, 0].tolist()
        yield _Example(
            name=_image_name(tables, row),
            picture=_thumbnail(tables.pictures.get(row)),
            own=[_text(tables, t) for t in own],
            answers=[
                _Answer(_text(tables, t), float(modalities.text[t] @ modalities.image[v]), t in own)
                for t in place[v].tolist()
            ],
        )


def _text(tables: MeasuredTables, row: int) -> str:
    if row in tables.captions:
        return tables.captions[row]
    return tables.names[0][row] if tables.names[0] is not None else f"text {row}"


def _image_name(tables: MeasuredTables, row: int) -> str:
    if row in tables.pictures:
        return tables.pictures[row].name
    return tables.names[1][row] if tables.names[1] is not None else f"image {row}"


def _thumbnail(path: Path | None) -> str | None:
    """A picture, as encoders are shown it, as a data URL; None where there is none that can be read."""
    from close.encoders.pictures import open_picture

    if path is None:
        return None
    try:
        small = open_picture(path)
    except CloseError:
        return None
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    out = BytesIO()
    small.save(out, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _remarks(report: GapReport, known: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Notes that are not `known`, those that say the same put together: (note, what it is about)."""
    titles = {measure.name: f"{measure.family}: {measure.title.strip()}" for measure in MEASURES}
    gathered: dict[str, list[str]] = {}
    for name, note in report.notes.items():
        if (name, note) not in known:
            gathered.setdefault(note, []).append(titles.get(name, name))
    return list(gathered.items())
