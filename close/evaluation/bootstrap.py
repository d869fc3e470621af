"""How sure a score is: bootstrap intervals over examples, and paired tests between two runs.

A `SummedScore` can be computed from sums over examples, which holds for means (accuracy, CIDEr with frozen
document frequencies) and for corpus scores (BLEU, METEOR) alike. Resampling is then one product of matrices. Examples of one
image are alike, so that they are drawn, and exchanged, together: one by one they would look like more than they are.
Of few the bootstrap's interval is too narrow: below `FEW` it is widened, and below `FEWEST` there is none.
Koehn (2004), "Statistical Significance Tests for Machine Translation Evaluation"; Efron and Tibshirani (1993).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from close.errors import MismatchError

__all__ = [
    "FEWEST",
    "Scores",
    "SummedScore",
    "compare_summed",
    "intervals",
    "mean_score",
    "percentile_ends",
    "pooled",
    "ratio_score",
    "unseen_share",
    "widening",
]

Array = NDArray[np.float64]
FEWEST, FEW = 10, 50
"""Examples, those of one image together, below which there is no interval; and below which it is widened."""


def _mean(sums: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def _ratio(sums: Array) -> Array:
    return sums[..., 0] / np.maximum(sums[..., 1], 1)  # 0 of nothing


@dataclass(frozen=True)
class SummedScore:
    """A score over N examples.

    Attributes:
        per_example: (N,) scores of the single examples, on the scale of the score.
        statistics: (N, k) what is summed over the examples.
        combine: sums (..., k) to scores (...).
        scale: lowest and highest value; None is open.
    """

    per_example: Array
    statistics: Array
    combine: Callable[[Array], Array] = field(default=_mean, repr=False)
    scale: tuple[float, float | None] = (0, 100)

    @property
    def value(self) -> float:
        """The score over all examples."""
        return float(self.combine(self.statistics.sum(axis=0)))

    @property
    def all_or_nothing(self) -> bool:
        """Whether it is a share, from 0 to 100, and all of it is right, or all wrong."""
        return self.share and self.value in (0.0, 100.0)

    @property
    def share(self) -> bool:
        """Whether it is a mean over the examples, or over what was counted of them, from 0 to 100."""
        return self.scale == (0, 100) and self.combine in (_mean, _ratio)


class Scores(dict[str, Any]):
    """Scores ready for JSON, with what they were computed from.

    Attributes:
        ids: the N examples, in the order of all arrays.
        metrics: name to `SummedScore`, with the scores of the single examples in `per_example`.
    """

    def __init__(self, values: Mapping[str, Any], ids: Sequence[str], metrics: Mapping[str, SummedScore]) -> None:
        super().__init__(values)
        self.ids = list(ids)
        self.metrics = dict(metrics)


def mean_score(values: ArrayLike) -> SummedScore:
    """The mean of `values` (N,) as a score over examples."""
    single = np.asarray(values, dtype=np.float64)
    return SummedScore(single, np.stack([single, np.ones_like(single)], axis=1))


def ratio_score(shares: ArrayLike, counts: ArrayLike) -> SummedScore:
    """What is right of all that was counted: of (N,) shares of (N,) counts, each by its count; 0 where nothing was."""
    single, weights = np.asarray(shares, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    return SummedScore(single, np.stack([single * weights, weights], axis=1), _ratio)


def pooled(scores: Sequence[SummedScore]) -> SummedScore:
    """Scores of several runs (seeds) on the same N examples as one: each example counts with its mean over the runs.

    A mean over examples becomes the mean of the runs; a corpus score (BLEU, METEOR) that of their outputs put together.

    Raises:
        MismatchError: other numbers of examples.
    """
    sizes = sorted({len(score.statistics) for score in scores})
    if len(sizes) > 1:
        raise MismatchError(f"the runs cover {' and '.join(map(str, sizes))} examples; they must be the same")
    per_example = np.mean([score.per_example for score in scores], axis=0)
    statistics = np.mean([score.statistics for score in scores], axis=0)
    return replace(scores[0], per_example=per_example, statistics=statistics)


def intervals(
    scores: Mapping[str, SummedScore],
    *,
    clusters: Sequence[Hashable] | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Percentile bootstrap intervals [low, high] of scores over the same N examples, resampled together.

    A share of examples that are all wrong or all right (0 or 100) has no spread to draw from, and gets the exact interval of a
    share (Clopper and Pearson, 1934).

    Args:
        clusters: (N,) of which image, say, each example is; those of one are drawn together.
    Returns:
        By name, but for shares of nothing; empty for `samples=0`, and of fewer than ten examples (or clusters).
    """
    if not samples or not scores or any(len(m.per_example) == 0 for m in scores.values()):
        return {}
    sizes = {name: len(m.statistics) for name, m in scores.items()}
    if len(set(sizes.values())) > 1:
        raise MismatchError(f"the scores are over different numbers of examples: {sizes}")
    statistics = _by_cluster(np.concatenate([m.statistics for m in scores.values()], axis=1), clusters)
    if len(statistics) < FEWEST:
        return {}
    sums = _resampled(statistics, samples, np.random.default_rng(seed))
    result, start = {}, 0
    for name, score in scores.items():
        own = slice(start, start + score.statistics.shape[1])
        if score.all_or_nothing:
            if counted := int(np.count_nonzero(statistics[:, own.stop - 1])):  # else it is a share of nothing
                wrong = 100 * unseen_share(counted, level)
                result[name] = [0.0, wrong] if score.value == 0 else [100 - wrong, 100.0]
        else:
            result[name] = percentile_ends(
                score.combine(sums[:, own]), score.value, len(statistics), level, score.scale
            )
        start = own.stop
    return result


def percentile_ends(
    draws: Array | Sequence[float],
    value: float,
    units: int,
    level: float,
    scale: tuple[float, float | None] = (-math.inf, None),
) -> list[float]:
    """The percentile interval of what was drawn of so many units, widened about the value where they are few."""
    tail = 50 * (1 - level)
    ends = np.percentile(draws, [tail, 100 - tail])
    if (wider := widening(units, level)) > 1:
        ends = np.clip(value + wider * (ends - value), *scale)
    return [float(end) for end in ends]


def widening(units: int, level: float = 0.95) -> float:
    """From the width of a percentile bootstrap of so few units to that of Student's interval of a mean; 1 from `FEW` on.

    Draws of N units vary by (N − 1)/N of the variance, and their quantiles are the normal's. At 10 they held in 87 % of cases.
    """
    from scipy import stats

    if units >= FEW:
        return 1.0
    ends = stats.t.ppf((1 + level) / 2, units - 1) / stats.norm.ppf((1 + level) / 2)
    return float(ends * math.sqrt(units / (units - 1)))


def unseen_share(count: int, level: float = 0.95) -> float:
    """The largest share (0–1) that so many draws may all have missed: the exact interval's end (Clopper and Pearson, 1934)."""
    return float(1 - ((1 - level) / 2) ** (1 / count))


def compare_summed(
    a: SummedScore,
    b: SummedScore,
    *,
    clusters: Sequence[Hashable] | None = None,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """The difference b − a of two runs on the same N examples.

    Args:
        clusters: (N,) as `intervals` takes them.

    Returns `a`, `b`, `difference`, its bootstrap interval `ci`, and `p`: two-sided, by random exchange of the two runs'
    outputs (approximate randomisation, Noreen 1989), with (hits + 1)/(samples + 1), so never below 1/(samples + 1).
    Of fewer than ten examples (or clusters) `ci` is None; of fewer than two nothing is known, and `p` is None too.
    Where the difference of two means from 0 to 100 is the same on every example, there is no spread to draw from: the interval
    allows for what so few may not show.
    """
    if a.statistics.shape != b.statistics.shape:
        raise MismatchError(
            f"the runs cover {len(a.statistics)} and {len(b.statistics)} examples; they must be the same"
        )
    width, rng = a.statistics.shape[1], np.random.default_rng(seed)
    statistics = _by_cluster(np.concatenate([a.statistics, b.statistics], axis=1), clusters)
    told: dict[str, Any] = {"a": a.value, "b": b.value, "difference": b.value - a.value}
    if len(statistics) < 2:
        return told | {"ci": None, "p": None}
    sums = _resampled(statistics, samples, rng)
    drawn = b.combine(sums[:, width:]) - a.combine(sums[:, :width])
    count = len(statistics)
    told["ci"] = None if count < FEWEST else percentile_ends(drawn, told["difference"], count, level)
    if told["ci"] and a.share and b.share and np.ptp(drawn) < 1e-9:
        unseen = unseen_share(count, level)
        told["ci"] = [float(told["difference"] + unseen * (end - told["difference"])) for end in (-100, 100)]
    apart = statistics[:, width:] - statistics[:, :width]
    swapped = _blocks(samples, len(apart), lambda rows: rng.random((rows, len(apart))) < 0.5)
    change = np.concatenate([swap.astype(np.float64) @ apart for swap in swapped])
    exchanged = b.combine(b.statistics.sum(0) - change) - a.combine(a.statistics.sum(0) + change)
    hits = int((np.abs(exchanged) >= abs(told["difference"]) - 1e-12).sum())
    return told | {"p": (hits + 1) / (samples + 1)}


def _by_cluster(statistics: Array, clusters: Sequence[Hashable] | None) -> Array:
    """(C, k) sums over the rows of each cluster, in the order in which clusters come; the rows themselves without any."""
    if clusters is None:
        return statistics
    place = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    found = np.zeros((len(place), statistics.shape[1]))
    np.add.at(found, [place[cluster] for cluster in clusters], statistics)
    return found


def _resampled(statistics: Array, samples: int, rng: np.random.Generator) -> Array:
    """Sums over `samples` resamples of the rows, with replacement: (samples, k)."""
    n = len(statistics)
    weights = _blocks(samples, n, lambda rows: rng.multinomial(n, np.full(n, 1 / n), size=rows))
    return np.concatenate([w.astype(np.float64) @ statistics for w in weights])


def _blocks(samples: int, n: int, draw: Callable[[int], Any]) -> Any:
    """Draws in blocks of rows that keep memory near 64 MB, whatever `n` is."""
    size = max(1, 8_000_000 // max(n, 1))
    return (draw(min(size, samples - done)) for done in range(0, samples, size))
