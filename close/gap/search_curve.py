"""How hard a search among texts has to be made in training, so that it finds what an image will.

A model that retrieves is trained on what a text finds, and used on what an image finds. An image sees less well: what it finds is
further from its own caption. Noise on the text makes its search as hard, and how much that takes can be measured before any
training: at each noise, how near what is found lies to the caption, how much of it the image finds too, and how much of it is of
the same image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from close.adapters import cosine_to_std
from close.vectors.checked import Array, Floats, Ints, distinct_rows
from close.vectors.groups import rows_by_label
from close.vectors.neighbours import nearest

__all__ = ["COSINES", "DEPTH", "MOST", "QUERIES", "TOLERANCE", "SearchCurve", "enough", "search_curve"]

COSINES = tuple(round(math.cos(math.radians(angle)), 3) for angle in range(0, 81, 6))
"""The noises that are tried, as cosines: every 6 degrees."""
K, DEPTH, QUERIES, MOST = 5, 10, 500, 50_000
TOLERANCE = 0.02
"""What is within this share of the best counts as good as the best."""


def enough(best: float) -> float:
    """What counts as good as the best, which is below zero where images have nothing to do with their captions."""
    return best - TOLERANCE * abs(best)


@dataclass(frozen=True)
class SearchCurve:
    """One point per noise, for k found texts.

    Attributes:
        k, queries: how many are looked at, for how many captions with an image.
        cosine: of the noise. overlap: share of what the text finds that its image finds too. nearness: mean cosine with the text
            of what it finds. own: share of it that is captions of the same image; None where no two are known to be.
        image_nearness, image_own: the same of what the image finds. strangers: mean cosine of a query with any other text.
        depth: for 1 to 10 texts, the cosine of the mean of what the image finds with the caption, less what all texts share.
    """

    k: int
    queries: int
    cosine: tuple[float, ...]
    overlap: tuple[float, ...]
    nearness: tuple[float, ...]
    own: tuple[float, ...] | None
    image_nearness: float
    image_own: float | None
    strangers: float
    depth: tuple[float, ...]

    @property
    def noise(self) -> float | None:
        """The cosine of the noise at which a text finds as near ones as its image; 1 where it does so without.

        None where its image finds texts further off than any noise that was tried makes it.
        """
        falling = np.minimum.accumulate(self.nearness)
        if falling[0] <= self.image_nearness:
            return 1.0
        if falling[-1] > self.image_nearness:
            return None
        angles = np.degrees(np.arccos(self.cosine))
        angle = np.interp(-self.image_nearness, -falling, angles)
        return round(math.cos(math.radians(float(angle))), 2)

    @property
    def best_k(self) -> int:
        """The fewest texts whose mean tells within 2 % as much of the caption as the best number does."""
        return 1 + int(np.argmax(np.array(self.depth) >= enough(max(self.depth))))

    def at_noise(self, values: Sequence[float]) -> float | None:
        """Of values along the curve, the one at `noise`; None where there is none."""
        if self.noise is None:
            return None
        angles = np.degrees(np.arccos(self.cosine))
        return float(np.interp(math.degrees(math.acos(self.noise)), angles, values))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"noise": self.noise, "best_k": self.best_k}


def search_curve(
    text: Any,
    images: Any,
    queries: npt.ArrayLike,
    hidden: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    *,
    image_rows: npt.ArrayLike | None = None,
    k: int = K,
    seed: int = 0,
) -> SearchCurve:
    """The curve.

    Neither a caption's search nor its image's finds the caption itself, or what equals it: in use it is not there either.

    Args:
        text: (N, D) unit rows: the memory. images: (Q, D) unit rows, one for each of `queries`, (Q,) rows of the memory.
        image_rows: (Q,) which of the images each query's is, where there are others too.
        hidden: (Q,) one more row that a query does not find. labels: (N,) captions of one image share theirs.
        k: texts that are found. seed: of the 500 queries, and 50,000 texts, that are drawn where there are more. Where there are
            fewer queries, each searches more than once.
    """
    rng = np.random.default_rng(seed)
    rows = np.asarray(queries, np.int64)
    chosen = np.sort(rng.choice(len(rows), min(QUERIES, len(rows)), replace=False))
    asked = np.tile(chosen, max(1, QUERIES // len(chosen)))  # one noise of each, where they are few, would be luck
    rows, seen = rows[asked], asked if image_rows is None else np.asarray(image_rows, np.int64)[asked]
    others = np.asarray(images[seen], np.float32)
    gone = None if hidden is None else np.asarray(hidden, np.int64)[asked]
    kept = np.arange(len(text))
    if len(kept) > MOST:
        kept = np.unique(
            np.concatenate([rng.choice(kept, MOST, replace=False), rows, *([] if gone is None else [gone])])
        )
        rows, gone = np.searchsorted(kept, rows), None if gone is None else np.searchsorted(kept, gone)
    memory, groups = np.asarray(text[kept], np.float32), None if labels is None else np.asarray(labels)[kept]
    without = _without(memory, rows, gone)
    k = min(k, len(memory) - 1)
    depth = min(DEPTH, len(memory) - 1)
    own = memory[rows]
    by_image = nearest(others, memory, max(k, depth), without=without)[0]
    noise = rng.standard_normal(own.shape, np.float32)
    found = [nearest(_noised(own, noise, cosine), memory, k, without=without)[0] for cosine in COSINES]
    return SearchCurve(
        k=k,
        queries=len(chosen),
        cosine=COSINES,
        overlap=tuple(_shared(places, by_image[:, :k]) for places in found),
        nearness=tuple(_nearness(own, memory, places) for places in found),
        own=None if groups is None else tuple(_own(groups, rows, places) for places in found),
        image_nearness=_nearness(own, memory, by_image[:, :k]),
        image_own=None if groups is None else _own(groups, rows, by_image[:, :k]),
        strangers=_strangers(own, memory),
        depth=tuple(_depth(own, memory, by_image, count) for count in range(1, depth + 1)),
    )


def _without(memory: Array, rows: Ints, hidden: Ints | None) -> tuple[Ints, Ints]:
    same = distinct_rows(memory)[1]
    order, bounds = rows_by_label(same)
    parts = [order[bounds[same[row]] : bounds[same[row] + 1]] for row in rows]
    if hidden is not None:
        parts = [np.union1d(part, hidden[place]) for place, part in enumerate(parts)]
    return np.cumsum([0, *map(len, parts)]), np.concatenate(parts)


def _noised(rows: Array, noise: Array, cosine: float) -> Array:
    """Rows whose angle with what they were is near the cosine's, as the Gaussian adapter makes them."""
    moved = rows + cosine_to_std(cosine, rows.shape[1]) * noise
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True))


def _known(places: Ints) -> Array:
    """Which of the places there are: of few texts, some queries find fewer."""
    return np.asarray(places >= 0)


def _strangers(own: Array, memory: Array) -> float:
    """Mean cosine of rows of the memory with its other ones."""
    with_all = own.mean(axis=0, dtype=np.float64) @ memory.sum(axis=0, dtype=np.float64)
    with_itself = np.einsum("qd,qd->q", own, own).mean(dtype=np.float64)
    return float((with_all - with_itself) / (len(memory) - 1))


def _shared(a: Ints, b: Ints) -> float:
    both = (a[:, :, None] == b[:, None, :]) & _known(a)[:, :, None]
    return float(both.sum() / max(1, _known(a).sum()))


def _nearness(own: Array, memory: Array, places: Ints) -> float:
    cosines = np.einsum("qd,qkd->qk", own, memory[places])
    return float(cosines[_known(places)].mean())


def _own(groups: Array, rows: Ints, places: Ints) -> float:
    return float((groups[places] == groups[rows][:, None])[_known(places)].mean())


def _depth(own: Array, memory: Array, places: Ints, count: int) -> float:
    mean: Floats = memory.mean(axis=0, dtype=np.float64)
    counted = _known(places[:, :count])[..., None]
    said = (memory[places[:, :count]] * counted).sum(axis=1) / counted.sum(axis=1).clip(1) - mean
    meant = own - mean
    norms = np.linalg.norm(said, axis=1) * np.linalg.norm(meant, axis=1)
    return float((np.einsum("qd,qd->q", said, meant) / norms.clip(1e-12)).mean())
