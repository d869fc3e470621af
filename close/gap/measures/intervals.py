"""Bootstrap intervals: images are drawn with replacement, and their texts with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from close.gap.measures.cosine import pair_cosines
from close.gap.measures.distance import pair_distances, relative
from close.gap.measures.residual import noise_of
from close.gap.measures.retrieval import hit_ranks
from close.gap.modalities import Sides
from close.vectors.checked import Array, Floats, blocks

__all__ = ["bootstrap_intervals"]

BATCH = 100
LEVEL = 0.95


def bootstrap_intervals(
    sides: Sides, values: Mapping[str, float | None], *, draws: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the main measures (Efron, 1979), by name.

    Draws are of images with all their texts (`text_clusters`); candidates of retrieval stay as they are, its queries are drawn.
    Each interval is moved so that the draws' mean falls on the estimate: resampling widens gaps and narrows spreads a little.
    """
    fixed = _Fixed.of(sides)
    ranks = hit_ranks(sides.pairs, sides.neighbours)
    rng = np.random.default_rng(seed)
    units = max(len(sides.image), int(sides.clusters.max()) + 1)
    drawn: list[dict[str, Floats]] = []
    for start in range(0, draws, BATCH):
        counts = [
            np.bincount(rng.integers(units, size=units), minlength=units) for _ in range(min(BATCH, draws - start))
        ]
        weights = np.stack(counts).astype(np.float32)
        of_text, of_image = weights[:, sides.clusters], weights[:, : len(sides.image)]
        with np.errstate(divide="ignore", invalid="ignore"):
            batch = _spread_statistics(fixed, of_text, of_image)
            if len(sides.pairs):
                batch |= _pair_statistics(fixed, batch, of_text, of_image)
                batch |= _recall_statistics(ranks, of_text, of_image)
        drawn.append({name: value for name, value in batch.items() if not name.startswith("_")})
    gathered = {name: np.concatenate([batch[name] for batch in drawn]) for name in (drawn[0] if drawn else ())}
    found = {name: _interval(gathered[name], values.get(name), name) for name in gathered}
    return {name: interval for name, interval in found.items() if interval is not None}


def _interval(draws: Floats, value: float | None, name: str) -> tuple[float, float] | None:
    drawn, draws = len(draws), draws[np.isfinite(draws)]
    if value is None or len(draws) < 0.9 * drawn:  # of few rows, many draws hold the same one all over
        return None
    if name == "centroid_gap":  # the square is what resampling moves by a constant
        draws, value = draws**2, value**2
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - draws.mean() + value
    if name == "centroid_gap":
        low, high = np.sqrt(max(low, 0.0)), np.sqrt(max(high, 0.0))
    if name.startswith("recall"):
        low, high = max(low, 0.0), min(high, 1.0)
    return float(low), float(high)


@dataclass(frozen=True)
class _Fixed:
    """What the draws weigh: the rows, and one number a row or pair."""

    sides: Sides
    text_square: Floats
    image_square: Floats
    cosine: Floats
    distance: Floats

    @classmethod
    def of(cls, sides: Sides) -> _Fixed:
        rows = sides.text, sides.image, sides.pairs
        return cls(sides, _squares(sides.text), _squares(sides.image), pair_cosines(*rows), pair_distances(*rows))


def _squares(rows: Array) -> Floats:
    return np.concatenate([(block**2).sum(axis=1) for block in blocks(rows)])


def _weighted_sum(weights: Array, rows: Array, index: Any = None, size: int = 8192) -> Floats:
    """(B, D) sums of rows (or of rows at `index`) under (B, N) weights."""
    total = np.zeros((len(weights), rows.shape[1]))
    for start in range(0, weights.shape[1], size):
        some = slice(start, start + size)
        total += weights[:, some] @ (rows[some] if index is None else rows[index[some]])
    return total


def _square(rows: Floats) -> Floats:
    return np.asarray((rows**2).sum(axis=1))


def _spread_statistics(fixed: _Fixed, of_text: Array, of_image: Array) -> dict[str, Floats]:
    """What needs no pairs; names with an underscore are for the next step."""
    out: dict[str, Floats] = {}
    for side, weights, rows, squares in (
        ("text", of_text, fixed.sides.text, fixed.text_square),
        ("image", of_image, fixed.sides.image, fixed.image_square),
    ):
        count, total = weights.sum(axis=1, dtype=np.float64), _weighted_sum(weights, rows)
        twice = (weights**2).astype(np.float64)
        out[f"_count_{side}"], out[f"_mean_{side}"] = count, total / count[:, None]
        out[f"cone.{side}"] = np.sqrt(_square(out[f"_mean_{side}"]))
        out[f"_trace_{side}"] = weights @ squares / count - _square(out[f"_mean_{side}"])
        out[f"cosine.{side}_{side}.mean"] = (_square(total) - twice @ squares) / (count**2 - twice.sum(axis=1))
    out["_delta"] = out["_mean_image"] - out["_mean_text"]
    out["centroid_gap"] = np.sqrt(_square(out["_delta"]))
    out["trace_ratio"] = np.sqrt(out["_trace_image"] / out["_trace_text"])
    return out


def _pair_statistics(fixed: _Fixed, known: dict[str, Floats], of_text: Array, of_image: Array) -> dict[str, Floats]:
    t, v = fixed.sides.pairs.T
    weights, both = of_text[:, t].astype(np.float64), of_text[:, t] * of_image[:, v].astype(np.float64)
    count = weights.sum(axis=1)
    out = {
        "cosine.paired.mean": weights @ fixed.cosine / count,
        "pair_distance": weights @ fixed.distance / count,
        "alignment": weights @ fixed.distance**2 / count,
    }
    texts, images = known["_count_text"], known["_count_image"]
    dots = (known["_mean_text"] * known["_mean_image"]).sum(axis=1) * texts * images
    out["cosine.unpaired.mean"] = (dots - both @ fixed.cosine) / (texts * images - both.sum(axis=1))
    out["rmg"] = relative(out["cosine.paired.mean"], known["cosine.image_image.mean"], known["cosine.text_text.mean"])
    delta, dim = known["_delta"], fixed.sides.text.shape[1]
    shift = delta if fixed.sides.one_to_one else _pair_shift(fixed.sides, of_text[:, t]) / count[:, None]
    out["residual.per_dim_std"] = np.sqrt((out["alignment"] - _square(shift)).clip(0) / dim)
    squared = (out["alignment"] - 2 * (delta * shift).sum(axis=1) + _square(delta)).clip(0)
    out["noise.std"], out["noise.cosine"] = noise_of(squared, dim)
    return out


def _pair_shift(sides: Sides, weights: Array) -> Floats:
    """(B, D) sums of v − t over the pairs under (B, P) weights."""
    t, v = sides.pairs.T
    return _weighted_sum(weights, sides.image, v) - _weighted_sum(weights, sides.text, t)


def _recall_statistics(ranks: Any, of_text: Array, of_image: Array) -> dict[str, Floats]:
    out = {}
    for name, weights, (queries, rank) in zip(
        ("image_to_text", "text_to_image"), (of_image, of_text), ranks, strict=True
    ):
        chosen = weights[:, queries].astype(np.float64)
        for at in (1, 5, 10):
            out[f"recall.{name}.at_{at}"] = chosen @ (rank < at) / chosen.sum(axis=1)
    return out
