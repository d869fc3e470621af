"""How sure is sure: numbers that rank a run's outputs, mapped to the share of them that is right.

Isotonic regression (Zadrozny and Elkan, KDD 2002) by scikit-learn; expected calibration error over bins of like size (Naeini
et al., AAAI 2015); risk–coverage curves and the area below them (Geifman and El-Yaniv, NeurIPS 2017).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from close.errors import DataError
from close.evaluation.bootstrap import percentile_ends, unseen_share

__all__ = [
    "COVERAGES",
    "Calibration",
    "Signal",
    "accuracy_at",
    "aurc",
    "ece",
    "ece_by_chance",
    "fit",
    "interval",
    "reliability",
    "risk_coverage",
]

Array = NDArray[np.float64]
Signal = Literal["likelihood", "cosine", "both"]
"""What confidence is made of: the text's likelihood, the cosine of its own vector with the item's, or a weighted sum."""
COVERAGES = (1.0, 0.8, 0.5)
BINS = 10
NOTHING = -1.0
"""Cosine of an empty text."""


@dataclass(frozen=True)
class Calibration:
    """A map from likelihood and cosine to confidence.

    Attributes:
        by: what it reads. weights: of both: of likelihood, of cosine, and what is added.
        x, y: (K,) increasing signals and the confidence, 0 to 1, at each; straight in between, level beyond.
    """

    by: Signal
    x: tuple[float, ...]
    y: tuple[float, ...]
    weights: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def needs_cosine(self) -> bool:
        """Whether it reads cosines."""
        return self.by != "likelihood"

    def signal(self, likelihood: ArrayLike, cosine: ArrayLike | None = None) -> Array:
        """(N,) what ranks the outputs: of (N,) likelihoods and, where it reads them, cosines (NaN of an empty text)."""
        first = np.asarray(likelihood, dtype=np.float64)
        if not self.needs_cosine:
            return first
        second = np.nan_to_num(np.asarray(cosine, dtype=np.float64), nan=NOTHING)
        a, b, c = self.weights
        return second if self.by == "cosine" else a * first + b * second + c

    def __call__(self, likelihood: ArrayLike, cosine: ArrayLike | None = None) -> Array:
        """(N,) confidences, 0 to 1."""
        return np.interp(self.signal(likelihood, cosine), self.x, self.y)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def of(cls, values: Any, where: str) -> Calibration:
        """From JSON.

        Raises:
            DataError: it is none.
        """
        if not isinstance(values, Mapping) or values.get("by") not in get_args(Signal):
            raise DataError(f"{where}: no calibration; make it anew with `close calibrate`")
        lists = [values.get(key) for key in ("x", "y", "weights")]
        if not all(isinstance(found, list) and all(_is_number(value) for value in found) for found in lists):
            raise DataError(f"{where}: x, y and weights are lists of numbers; make it anew with `close calibrate`")
        x, y, weights = (tuple(map(float, found)) for found in lists if found is not None)
        if not x or len(x) != len(y) or len(weights) != 3 or any(np.diff(x) <= 0) or min(y) < 0 or max(y) > 1:
            raise DataError(f"{where}: x increases and y lies between 0 and 1; make it anew with `close calibrate`")
        return cls(values["by"], x, y, weights)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def fit(by: Signal, likelihood: Array, cosine: Array | None, right: Array) -> Calibration:
    """Learn the map from N outputs.

    Args:
        by: what it reads; both are weighed by logistic regression first. likelihood, cosine: (N,).
        right: (N,) how right each is, 0 to 1.
    """
    from sklearn.isotonic import IsotonicRegression

    weights = _weights(likelihood, cosine, right) if by == "both" and cosine is not None else (0.0, 0.0, 0.0)
    signal = Calibration(by, (), (), weights).signal(likelihood, cosine)
    found = IsotonicRegression(y_min=0, y_max=1).fit(signal, right)
    x, first = np.unique(found.X_thresholds_.astype(np.float64), return_index=True)
    y = found.y_thresholds_.astype(np.float64)[first].clip(0, 1)
    return Calibration(by, tuple(x.tolist()), tuple(y.tolist()), weights)


def _weights(likelihood: Array, cosine: Array, right: Array) -> tuple[float, float, float]:
    """Of a logistic regression on both, in the units of the signals; a half-right output counts half on either side."""
    from sklearn.linear_model import LogisticRegression

    both = np.stack([likelihood, np.nan_to_num(cosine, nan=NOTHING)], axis=1)
    mean, scale = both.mean(0), both.std(0)
    scale[scale == 0] = 1
    ready = (both - mean) / scale
    sides = np.repeat([1, 0], len(right))
    found = LogisticRegression().fit(np.tile(ready, (2, 1)), sides, np.concatenate([right, 1 - right]))
    a, b = found.coef_[0] / scale
    return float(a), float(b), float(found.intercept_[0] - (found.coef_[0] * mean / scale).sum())


def reliability(confidence: Array, right: Array, bins: int = BINS) -> list[dict[str, float]]:
    """`confidence` (mean), `right` (mean) and `count` in bins of like size, like confidences in one bin."""
    rank = np.searchsorted(np.sort(confidence), confidence)
    place = rank * bins // len(confidence)
    return [
        {"confidence": float(confidence[here].mean()), "right": float(right[here].mean()), "count": int(here.sum())}
        for here in (place == number for number in range(bins))
        if here.any()
    ]


def ece(confidence: Array, right: Array, bins: int = BINS) -> float:
    """Expected calibration error, 0 to 1: how far confidence is from the share that is right, mean over the bins."""
    found = reliability(confidence, right, bins)
    return sum(one["count"] * abs(one["confidence"] - one["right"]) for one in found) / len(confidence)


def ece_by_chance(
    confidence: Array,
    right: Array,
    clusters: Sequence[Hashable] | None = None,
    *,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, float]:
    """The error that confidence as it should be has on so many rows, since no bin holds exactly its share: `mean`, and `most`.

    An error of few rows is never 0, so an interval around it would not hold the true one: this is what to hold it against.

    Args:
        confidence: (N,). right: (N,) how right each is; in parts, it strays from what is expected less than right or wrong does,
            and what is drawn strays as little.
        clusters: (N,) of which picture, say, each row is. Rows of one go wrong together: what each strays by is kept, and drawn
            is which way all of one picture do (the wild cluster bootstrap; Cameron, Gelbach and Miller, 2008). They stray no more
            than right or wrong does: what is more than that is the error itself.
    """
    place, count = _numbers(clusters, len(confidence))
    rng = np.random.default_rng(seed)
    most, strayed = float((confidence * (1 - confidence)).sum()), float(((right - confidence) ** 2).sum())
    if count < len(confidence):
        kept = (right - confidence) * (math.sqrt(most / strayed) if strayed > most else 1.0)
        ways = rng.choice([-1.0, 1.0], (samples, count))
        return _about([ece(confidence, confidence + way[place] * kept) for way in ways], level)
    whole = bool(np.isin(right, (0, 1)).all())
    stray = 1.0 if whole or most == 0 else min(1.0, math.sqrt(strayed / most))
    drawn = rng.random((samples, len(confidence))) < confidence
    return _about([ece(confidence, confidence + stray * (one - confidence)) for one in drawn], level)


def _about(found: list[float], level: float) -> dict[str, float]:
    return {"mean": float(np.mean(found)), "most": float(np.quantile(found, level))}


def _numbers(clusters: Sequence[Hashable] | None, rows: int) -> tuple[NDArray[np.int64], int]:
    """(N,) the number of each row's cluster, and how many there are; each row is one by itself where nothing is said."""
    names = range(rows) if clusters is None else clusters
    place = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([place[name] for name in names], np.int64), len(place)


def _kept(order_by: Array, values: Array) -> Array:
    """(N,) values from the surest on, each among equals with their mean: what any order of them gives on average."""
    surest, group = np.unique(-order_by, return_inverse=True)
    means = np.bincount(group, values, len(surest)) / np.bincount(group, minlength=len(surest))
    return means[group][np.argsort(-order_by, kind="stable")]


def risk_coverage(order_by: Array, right: Array) -> Array:
    """(N,) risk, 1 − mean right, of the surest 1, 2, … N outputs."""
    return 1 - _kept(order_by, right).cumsum() / np.arange(1, len(right) + 1)


def aurc(order_by: Array, right: Array) -> float:
    """Area under the risk–coverage curve: the mean risk over all coverages. Lower is better; without any order it is the risk."""
    return float(risk_coverage(order_by, right).mean())


def accuracy_at(order_by: Array, right: Array, coverage: float) -> float:
    """Mean right, 0 to 1, of the surest share of the outputs."""
    return float(1 - risk_coverage(order_by, right)[math.ceil(coverage * len(right) - 1e-9) - 1])


def interval(
    measure: Any,
    *columns: Array,
    clusters: Sequence[Hashable] | None = None,
    coverage: float | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> list[float]:
    """Percentile bootstrap interval of `measure(*columns)` over rows; of few it is widened (`close.evaluation.bootstrap`).

    Args:
        clusters: (N,) of which picture, say, each row is; those of one are drawn together.
        coverage: of a measure from 0 to 1 of the surest so much of the rows: all or nothing of it is no surer than the exact
            interval of so many (Clopper and Pearson, 1934).
    """
    place, count = _numbers(clusters, len(columns[0]))
    value = float(measure(*columns))
    rng = np.random.default_rng(seed)
    drawn: Iterator[NDArray[np.int64]] = (rng.integers(0, count, count) for _ in range(samples))
    if count < len(place):
        members = np.split(np.argsort(place, kind="stable"), np.bincount(place).cumsum()[:-1])
        drawn = (np.concatenate([members[one] for one in chosen]) for chosen in drawn)
    found = [measure(*(column[rows] for column in columns)) for rows in drawn]
    low, high = percentile_ends(found, value, count, level)
    if coverage is None:
        return [low, high]
    away = unseen_share(math.ceil(coverage * count - 1e-9), level)
    low, high = min(low, 1 - away) if value == 1 else low, max(high, away) if value == 0 else high
    return [max(low, 0.0), min(high, 1.0)]
