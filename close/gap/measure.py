"""All measures of the gap between two tables, gathered in one report."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from close.errors import DataError
from close.gap.measures.catalogue import NAMES
from close.gap.measures.centroid import centroid_gap, cone, constancy, dimension_gap, trace_ratio
from close.gap.measures.cosine import group_cosine, paired_cosine, unpaired_cosine, within_cosine
from close.gap.measures.distance import alignment, cross_uniformity, pair_distance, relative_gap, uniformity
from close.gap.measures.distribution import coral, frechet, mmd, sliced_w2
from close.gap.measures.intervals import bootstrap_intervals
from close.gap.measures.residual import (
    caption_spread,
    consecutive_cosine,
    noise_from_pairs,
    one_text_per_image,
    residual_normality,
    residual_size,
    residual_spectrum,
)
from close.gap.measures.retrieval import hubness, neighbour_agreement, recall
from close.gap.measures.separability import split_accuracy
from close.gap.measures.structure import cka, procrustes_residual
from close.gap.modalities import Sides, as_pairing
from close.vectors.checked import Ints, Pairs

__all__ = ["GapReport", "measure_gap", "measure_sides"]


@dataclass(frozen=True)
class GapReport:
    """Measures of the gap between two tables.

    Attributes:
        n_text, n_image, dim: rows and width of the tables.
        values: every name of the catalogue; None where it can't be had.
        intervals: (low, high) of the main ones, 95 %.
        notes: by the measure's name, why it is None or that it was made on a sample; by "text" or "image", remarks on the input.
    """

    n_text: int
    n_image: int
    dim: int
    values: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float | None:
        return self.values[name]

    def to_dict(self) -> dict[str, Any]:
        """Nested by the dots in the names; `intervals` and `notes` are flat."""
        out: dict[str, Any] = {"n_text": self.n_text, "n_image": self.n_image, "dim": self.dim}
        for name, value in self.values.items():
            *path, leaf = name.split(".")
            node = out
            for part in path:
                node = node.setdefault(part, {})
            node[leaf] = value
        intervals = {name: list(interval) for name, interval in self.intervals.items()}
        return out | {"intervals": intervals, "notes": dict(self.notes)}

    def to_json(self) -> str:
        """`to_dict` as indented JSON without NaN."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


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
        sample: with more rows than this, measures quadratic in N (uniformity, MMD, neighbour agreement) take this many, drawn
            with `seed`, and the notes say so. All others are exact.
        bootstrap: resamples for the intervals; 0 leaves them out.
        progress: called with the name of what is measured next.
    Raises:
        DataError: shapes, NaN, infinite or zero rows (named), constant tables, pairs that point nowhere.
        MismatchError: widths differ, or lengths where pairing is by row.
    """
    return measure_sides(
        Sides.of(text, image, pairs, groups), sample=sample, bootstrap=bootstrap, seed=seed, progress=progress
    )


def measure_sides(
    sides: Sides,
    *,
    sample: int = 20_000,
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> GapReport:
    """`measure_gap` of sides that are ready."""
    tell = progress or (lambda _: None)
    values: dict[str, float | None] = dict.fromkeys(NAMES)
    notes = dict(sides.notes) | _caveats(sides, sample, seed)
    for names, measure in _exact(sides, seed) + _quadratic(sides, sample, seed):
        keys = names.split()
        tell(keys[0])
        try:
            found = dict(zip(keys, _flat(measure()), strict=True))
        except DataError as reason:
            notes.update(dict.fromkeys(keys, str(reason)))
        else:
            values.update({key: value for key, value in found.items() if math.isfinite(value)})
            notes.update({key: f"is {value} on this data" for key, value in found.items() if not math.isfinite(value)})
    accuracy = values["separability"]
    if accuracy is not None and accuracy < 0.5:
        notes["separability"] = (
            "below 0.5: what tells the modalities apart in one half misleads in the other; read as 0.5"
        )
    tell("intervals")
    intervals = bootstrap_intervals(sides, values, draws=bootstrap, seed=seed)
    return GapReport(len(sides.text), sides.n_image, sides.text.shape[1], values, intervals, notes)


Step = tuple[str, Callable[[], Any]]


def _exact(sides: Sides, seed: int) -> list[Step]:
    """Names, and how to get them, of what is exact at any size."""
    t, v, p, g = sides.text, sides.image, sides.pairing, sides.groups
    return [
        ("centroid_gap", lambda: centroid_gap(*sides.moments)),
        ("pair_distance", lambda: pair_distance(t, v, p)),
        ("alignment", lambda: alignment(t, v, p)),
        ("rmg", lambda: relative_gap(t, v, p, moment=sides.moments)),
        ("cosine.paired.mean cosine.paired.std", lambda: paired_cosine(t, v, p)),
        ("cosine.unpaired.mean cosine.unpaired.std", lambda: unpaired_cosine(t, v, p, moment=sides.moments)),
        ("cosine.text_text.mean cosine.text_text.std", lambda: within_cosine(t, moment=sides.moments[0])),
        ("cosine.image_image.mean cosine.image_image.std", lambda: within_cosine(v, moment=sides.moments[1])),
        ("cosine.same_image_captions.mean cosine.same_image_captions.std", lambda: group_cosine(t, g)),
        ("caption_spread.std caption_spread.linf", lambda: caption_spread(t, g)),
        ("separability", lambda: split_accuracy(t, v, sides.clusters, seed)),
        (
            "constancy.length_cv constancy.direction_cosine constancy.orthogonality",
            lambda: constancy(t, v, p, seed=seed),
        ),
        ("dimension.top10_gap_share dimension.std_ratio_median", lambda: dimension_gap(*sides.moments)),
        ("trace_ratio", lambda: trace_ratio(*sides.moments)),
        ("cone.text cone.image", lambda: cone(*sides.moments)),
        ("frechet.raw", lambda: frechet(*sides.moments)),
        ("frechet.centred", lambda: frechet(*sides.moments, centred=True)),
        ("coral", lambda: coral(*sides.moments)),
        ("sliced_w2", lambda: sliced_w2(t, v, seed=seed)),
        ("residual.per_dim_mean residual.per_dim_std residual.norm", lambda: residual_size(t, v, p)),
        ("residual.consecutive_cosine", lambda: consecutive_cosine(t, v, p)),
        (
            "residual.participation_ratio residual.effective_rank residual.top10_share",
            lambda: residual_spectrum(sides.joint),
        ),
        ("residual.normality_p", lambda: residual_normality(t, v, p)),
        ("noise.std noise.cosine", lambda: noise_from_pairs(t, v, p)),
        ("cka", lambda: cka(sides.joint)),
        ("procrustes_residual", lambda: procrustes_residual(sides.joint)),
        (
            " ".join(name for name in NAMES if name.startswith("recall.")),
            lambda: recall(t, v, p, neighbours=sides.neighbours),
        ),
        ("hubness.text hubness.image", lambda: hubness(t, v, neighbours=sides.neighbours)),
    ]


def _quadratic(sides: Sides, limit: int, seed: int) -> list[Step]:
    """The same for what is quadratic in N, on at most `limit` rows a side."""
    rng = np.random.default_rng(seed)
    texts, images = _draw(len(sides.text), limit, rng), _draw(len(sides.image), limit, rng)
    t, v = sides.text[texts], sides.image[images]
    inside = sides.pairs[np.isin(sides.pairs[:, 0], texts) & np.isin(sides.pairs[:, 1], images)]
    inside = np.stack((np.searchsorted(texts, inside[:, 0]), np.searchsorted(images, inside[:, 1])), axis=1)
    chosen = one_text_per_image(sides.pairs)
    chosen = chosen[_draw(len(chosen), limit, rng)]
    return [
        ("uniformity.text", lambda: uniformity(t)),
        ("uniformity.image", lambda: uniformity(v)),
        ("uniformity.cross", lambda: cross_uniformity(t, v, as_pairing(inside))),
        ("mmd", lambda: mmd(t, v)),
        ("neighbour_agreement", lambda: neighbour_agreement(sides.text, sides.image, as_pairing(chosen))),
    ]


def _caveats(sides: Sides, limit: int, seed: int) -> dict[str, str]:
    """What was measured on a sample, and what few rows bias."""
    notes: dict[str, str] = {}
    for side, total in (("text", len(sides.text)), ("image", len(sides.image))):
        if total > limit:
            said = f"on {limit} of {total} {side}s, drawn with seed {seed}"
            for name in (f"uniformity.{side}", "uniformity.cross", "mmd"):
                notes[name] = f"{notes[name]}; {said}" if name in notes else said
    images = len(np.unique(sides.pairs[:, 1]))
    if images > limit:
        notes["neighbour_agreement"] = f"on {limit} of {images} paired images, drawn with seed {seed}"
    rows, dim = min(len(sides.text), len(sides.image)), sides.text.shape[1]
    for name, count, way in (
        ("frechet.raw", rows, "high"),
        ("frechet.centred", rows, "high"),
        ("cka", len(sides.pairs), "high"),
        ("procrustes_residual", len(sides.pairs), "low"),
        ("residual.participation_ratio", len(sides.pairs), "low"),
        ("residual.effective_rank", len(sides.pairs), "low"),
    ):
        if 0 < count < 4 * dim:
            notes[name] = f"reads {way}: {count} rows are few for {dim} dimensions"
    return notes


def _draw(total: int, limit: int, rng: np.random.Generator) -> Ints:
    return np.sort(rng.choice(total, limit, replace=False)) if total > limit else np.arange(total)


def _flat(result: Any) -> Iterator[float]:
    """The numbers of a number, a record or a record of records, in order."""
    if is_dataclass(result):
        for item in vars(result).values():
            yield from _flat(item)
    else:
        yield float(result)
