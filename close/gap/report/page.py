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

from close.gap.measure import GapReport
from close.gap.measured import Case
from close.gap.measures.catalogue import CATALOGUE, Measure
from close.gap.report import figures
from close.gap.report.words import constant_share, verdict
from close.io.versions import own_version

__all__ = ["render_html"]

TILES = (
    ("centroid_gap", 0.0, 1.4, "Centroid gap", "Between the mean text and the mean image."),
    ("rmg", 0.0, 1.0, "Relative gap", "Pairs against strangers of one modality: 0.5 is as far."),
    ("cosine.paired.mean", -0.2, 1.0, "Cosine of pairs", "Between a text and its own image."),
    ("separability", 0.5, 1.0, "Separability", "How well a straight cut tells text from image."),
    ("recall.image_to_text.at_1", 0.0, 1.0, "Image to text, R@1", "Share of images whose own text comes first."),
    ("noise.cosine", 0.0, 1.0, "Noise, as a cosine", "Noise as long as what a shift leaves over."),
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


def render_html(cases: Sequence[Case], *, seed: int = 0) -> str:
    """The report of measured cases, the first in the lead.

    Every string from data is escaped, nothing is loaded from anywhere, and no script runs. Drawings and examples are of samples
    drawn with `seed`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    first = cases[0]
    env = Environment(
        loader=PackageLoader("close.gap.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": number, "formula": formula}
    return env.get_template("page.html.j2").render(
        cases=cases,
        first=first,
        said=verdict(first.report),
        share=constant_share(first.report),
        tiles=[_Tile.of(first.report, *tile) for tile in TILES if first.report[tile[0]] is not None],
        beside=BESIDE,
        headlines=[verdict(case.report).headline for case in cases],
        keys=[figures.key(place) for place in range(len(cases))],
        panels=[
            {"case": case, "plane": plane, "cosines": cosines, "dimensions": dimensions}
            for case, plane, cosines, dimensions in zip(
                cases, figures.planes(cases, seed), figures.cosines(cases, seed), figures.dimensions(cases), strict=True
            )
        ],
        spectrum=figures.spectrum(cases),
        landscape=figures.landscape(cases, seed),
        recalls=figures.recalls(cases),
        examples=list(_examples(first, seed)),
        families=[(family, list(group)) for family, group in groupby(CATALOGUE, key=lambda measure: measure.family)],
        remarks=[(case, _remarks(case.report, () if case is first else first.report.notes.items())) for case in cases],
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


def _measure(name: str) -> Measure:
    return next(measure for measure in CATALOGUE if measure.name == name)


@dataclass(frozen=True)
class _Tile:
    """A headline number on its scale; places are in percent of the track."""

    measure: Measure
    value: float
    interval: tuple[float, float] | None
    start: float
    end: float
    title: str
    says: str

    @classmethod
    def of(cls, report: GapReport, name: str, start: float, end: float, title: str, says: str) -> _Tile:
        value = report[name]
        return cls(_measure(name), float(value or 0), report.intervals.get(name), start, end, title, says)

    def place(self, value: float | None, default: float = 0.0) -> float:
        """Where a value lies on the track."""
        if value is None:
            return default
        return round(100 * min(max((value - self.start) / (self.end - self.start), 0.0), 1.0), 2)

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


def _examples(case: Case, seed: int) -> Iterator[_Example]:
    """Images found and images missed, half and half where there are both; none where there is nothing to read."""
    if not case.captions and case.names[0] is None:
        return
    sides, rng = case.sides, np.random.default_rng(seed)
    together = set(map(tuple, sides.pairs.tolist()))
    nearest = sides.neighbours.texts_of_image[:, :NEAREST]
    asked = np.unique(sides.pairs[:, 1]) if together else np.arange(len(sides.image))
    hit = np.array([(nearest[v, 0], v) in together for v in asked])
    found, missed = (rng.permutation(asked[hit == side]) for side in (True, False))
    half = max(EXAMPLES // 2, EXAMPLES - len(missed))
    for v in [*found[:half].tolist(), *missed[: EXAMPLES - min(half, len(found))].tolist()]:
        row = int(sides.image_rows[v])
        yield _Example(
            name=_image_name(case, row),
            picture=_thumbnail(case.pictures.get(row)),
            own=[_text(case, int(t)) for t in sides.pairs[sides.pairs[:, 1] == v, 0]],
            answers=[
                _Answer(_text(case, t), float(sides.text[t] @ sides.image[v]), (t, v) in together)
                for t in nearest[v].tolist()
            ],
        )


def _text(case: Case, row: int) -> str:
    if row in case.captions:
        return case.captions[row]
    return case.names[0][row] if case.names[0] is not None else f"text {row}"


def _image_name(case: Case, row: int) -> str:
    if row in case.pictures:
        return case.pictures[row].name
    return case.names[1][row] if case.names[1] is not None else f"image {row}"


def _thumbnail(path: Path | None) -> str | None:
    """A picture as a data URL; None where there is none that can be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            small = ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError):
        return None
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    out = BytesIO()
    small.save(out, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _remarks(report: GapReport, known: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Notes that are not `known`, those that say the same put together: (note, what it is about)."""
    titles = {measure.name: f"{measure.family}: {measure.title.strip()}" for measure in CATALOGUE}
    gathered: dict[str, list[str]] = {}
    for name, note in report.notes.items():
        if (name, note) not in known:
            gathered.setdefault(note, []).append(titles.get(name, name))
    return list(gathered.items())
