"""All measures of the gap between two tables, gathered in one report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError, counted
from close.evaluation.bootstrap import FEWEST, unseen_share, widening
from close.gap.measures import MEASURES, Computation, Interval, Measure
from close.gap.modalities import Modalities, distinct_pairs
from close.gap.resample import resamples
from close.registry import unknown_name
from close.vectors.checked import Floats, Ints, Pairs

__all__ = ["GapReport", "measure_gap", "measure_modalities"]

LEVEL = 0.95
FEWEST_DRAWS = 20
"""Resamples that an interval is read off of: the ends of fewer are nearly the estimate."""


@dataclass(frozen=True)
class GapReport:
    """Measures of the gap between two tables.

    Attributes:
        n_text, n_image, dim: rows and width of the tables.
        values: every registered measure, in the order of `MEASURES`; None where it can't be had.
        intervals: (low, high) of the main ones, 95 %; none where fewer than 10 images, or texts of different images, are drawn.
        curves: `search`: see `close.gap.search_curve`; where there are pairs.
        notes: by the measure's name, why it is None or that it was made on a sample; by "text" or "image", remarks on the input.
    """

    n_text: int
    n_image: int
    dim: int
    values: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | None:
        if name not in self.values:
            raise unknown_name("measure", str(name), self.values)
        return self.values[name]

    def to_dict(self) -> dict[str, Any]:
        """Nested by the dots in the names, curves beside the measures of their name; `intervals` and `notes` are flat."""
        out: dict[str, Any] = {"n_text": self.n_text, "n_image": self.n_image, "dim": self.dim}
        for name, value in self.values.items():
            *path, leaf = name.split(".")
            node = out
            for part in path:
                node = node.setdefault(part, {})
            node[leaf] = value
        for name, curve in self.curves.items():
            out[name]["curve"] = dict(curve)
        intervals = {name: list(interval) for name, interval in self.intervals.items()}
        return out | {"intervals": intervals, "notes": dict(self.notes)}


def measure_gap(
    text: Any,
    image: Any,
    *,
    pairs: Pairs = None,
    groups: npt.ArrayLike | None = None,
    sample: int = 20_000,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> GapReport:
    """Every measure of the gap between two tables of embeddings.

    Args:
        text, image: (N, D) and (M, D) arrays, memory maps or anything with `__array__`; made unit rows where they are not.
        pairs: None pairs by row, "unpaired" has no pairs, else (P, 2) integers (text index, image index); a text or an image may
            be in several. Image rows that are exactly equal are one image.
        groups: (N,) labels: captions of one image share theirs. From the pairs, where not given.
        sample: with more rows than this, measures quadratic in N (uniformity, MMD, neighbour agreement), and separability, take
            this many, drawn with `seed`. With more than five times as many, R@k asks so few of them, for all answers there are,
            that it costs no more than those would, and hubness is None. The search is asked by 500 captions, among 50,000 at
            most, whatever the sample. The notes say so. All others are exact.
        bootstrap: resamples for the intervals, 20 at least; 0 leaves them out.
        progress: called with the name of what is measured next.
    Raises:
        DataError: shapes, NaN, infinite or zero rows (named), constant tables, pairs that point nowhere, labels that are none.
        MismatchError: widths differ, or lengths where pairing is by row. RecipeError: too small a sample, or too few resamples.
    """
    data = Modalities.of(text, image, pairs, groups)
    return measure_modalities(data, sample=sample, bootstrap=bootstrap, seed=seed, progress=progress)


def measure_modalities(
    data: Modalities,
    *,
    sample: int = 20_000,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> GapReport:
    """`measure_gap` of modalities that are ready."""
    counted(sample, "sample", 2)
    counted(bootstrap, "bootstrap (0 for none)", 0 if bootstrap == 0 else FEWEST_DRAWS)
    data = data.asking(sample, seed)
    tell = progress or (lambda _: None)
    values: dict[str, float | None] = dict.fromkeys(MEASURES.names)
    notes = dict(data.notes)
    drawn = _Drawn.of(data, sample, seed)
    for computation in MEASURES.computations:
        tell(computation.measures[0].name)
        found, remarks = _computed(computation, drawn, seed)
        values |= found
        for measure in computation.measures:
            caveat = _caveat(measure, drawn) if measure.name in found else ""
            if note := "; ".join(filter(None, (remarks.get(measure.name), caveat))):
                notes[measure.name] = note
    tell("intervals")
    intervals = _intervals(data, values, bootstrap, seed)
    return GapReport(len(data.text), data.n_image, data.text.shape[1], values, intervals, notes, _curves(data))


def _curves(data: Modalities) -> dict[str, dict[str, Any]]:
    """What measures are read off of, where it can be had."""
    try:
        search = data.search
    except DataError:
        return {}
    return {"search": search.to_dict()} if math.isfinite(search.image_nearness) else {}


def _computed(computation: Computation, drawn: _Drawn, seed: int) -> tuple[dict[str, float | None], dict[str, str]]:
    """Finite values by name, and notes: remarks on them, and why the others are not to be had."""
    try:
        found = computation(drawn.for_measure(computation.measures[0]), seed)
    except DataError as reason:
        return {}, {measure.name: str(reason) for measure in computation.measures}
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    remarks = {name: remark(value) for name, value in finite.items() if (remark := MEASURES[name].remark)}
    odd = {name: f"is {value} on this data" for name, value in found.items() if name not in finite}
    return dict(finite), {name: remark for name, remark in remarks.items() if remark} | odd


@dataclass(frozen=True)
class _Drawn:
    """The data, and what quadratic measures get of them: at most `limit` rows a side, or pairs, drawn with `seed`."""

    data: Modalities
    rows: Modalities
    pairs: Modalities
    limit: int
    seed: int

    @classmethod
    def of(cls, data: Modalities, limit: int, seed: int) -> _Drawn:
        rng = np.random.default_rng(seed)
        texts, images = _draw(len(data.text), limit, rng), _draw(len(data.image), limit, rng)
        pairs = distinct_pairs(data.pairs)
        rows = data if max(len(data.text), len(data.image)) <= limit else data.drawn(texts, images)
        return cls(data, rows, replace(data, pairs=pairs[_draw(len(pairs), limit, rng)]), limit, seed)

    def for_measure(self, measure: Measure) -> Modalities:
        if not measure.sample:
            return self.data
        return self.pairs if "pairs" in measure.sample else self.rows


def _draw(total: int, limit: int, rng: np.random.Generator) -> Ints:
    return np.sort(rng.choice(total, limit, replace=False)) if total > limit else np.arange(total)


def _caveat(measure: Measure, drawn: _Drawn) -> str:
    """That it was made on a sample, or that few rows bias it."""
    data, limit = drawn.data, drawn.limit
    totals = {
        "text": (len(data.text), "texts"),
        "image": (len(data.image), "images"),
        "pairs": (len(distinct_pairs(data.pairs)), "paired images"),
    }
    notes = [
        f"on {limit} of {total} {kind}, drawn with seed {drawn.seed}"
        for total, kind in (totals[kind] for kind in measure.sample)
        if total > limit
    ]
    if measure.asked_by is not None and data.asked is not None:
        count, total, kind = len(data.asked[measure.asked_by]), *totals[("text", "image")[measure.asked_by]]
        if count < total:
            notes.append(f"asked by {count} of {total} {kind}, drawn with seed {drawn.seed}")
    if measure.caveat:
        notes.append(measure.caveat(data))
    if measure.few:
        unit, reads = measure.few
        different = min(len(np.unique(rows)) for rows in data.pairs.T)  # captions of one image are not new to it
        count = different if unit == "pairs" else min(len(data.text), len(data.image))
        if 0 < count < 4 * data.text.shape[1]:
            notes.append(f"reads {reads}: {count} rows are few for {data.text.shape[1]} dimensions")
    return "; ".join(filter(None, notes))


def _intervals(
    data: Modalities, values: Mapping[str, float | None], draws: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % intervals by name, of the measures that declare one and have a value."""
    parts = [data.clusters, data.image_clusters]
    if len(data.pairs):
        parts.append(data.clusters[data.pairs[:, 0]])
    units = min(len(np.unique(part)) for part in parts)
    if units < FEWEST:
        return {}
    wanted = {
        measure.name: measure.interval
        for measure in MEASURES
        if measure.interval
        and values[measure.name] is not None
        and (len(data.pairs) or not measure.interval.needs_pairs)
    }
    drawn: dict[str, list[Floats]] = {name: [] for name in wanted}
    with np.errstate(divide="ignore", invalid="ignore"):
        for batch in resamples(data, draws, seed):
            for name, interval in wanted.items():
                drawn[name].append(interval.draws(batch))
    found = {
        name: _ends(np.concatenate(drawn[name]), float(values[name] or 0), interval, _asking(data, name, units))
        for name, interval in wanted.items()
        if drawn[name]
    }
    return {name: ends for name, ends in found.items() if ends is not None}


def _asking(data: Modalities, name: str, units: int) -> int:
    """The units that a measure is of: fewer, where only some rows look for neighbours."""
    side = MEASURES[name].asked_by
    if side is None or data.asked is None:
        return units
    asked = data.asked[side]
    return min(units, len(np.unique((data.clusters, data.image_clusters)[side][asked])))


def _ends(draws: Floats, value: float, interval: Interval, units: int) -> tuple[float, float] | None:
    """The quantiles, moved so that the draws' mean falls on the estimate: resampling widens gaps and narrows spreads a little.

    Of few units they lie too near, and are widened. A share that is all or nothing has no spread, and gets its exact interval
    (Clopper and Pearson, 1934).
    """
    drawn, draws = len(draws), draws[np.isfinite(draws)]
    if len(draws) < 0.9 * drawn:  # of few rows, many draws hold the same one all over
        return None
    if interval.bounds == (0.0, 1.0) and value in interval.bounds:
        away = unseen_share(units, LEVEL)
        return (0.0, away) if value == 0 else (1 - away, 1.0)
    if interval.square:
        draws, value = draws**2, value**2
    spread = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - draws.mean()
    low, high = value + spread * widening(units, LEVEL)
    if interval.square:
        low, high = np.sqrt(max(low, 0.0)), np.sqrt(max(high, 0.0))
    if interval.bounds:
        low, high = max(low, interval.bounds[0]), min(high, interval.bounds[1])
    return float(low), float(high)
