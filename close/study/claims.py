"""What a sweep may claim: each method tuned with the same budget, and over all settings; seeds nested in settings.

Methods are compared in the same settings with the same seeds, so differences are paired; seeds are others in each setting, so
that what a seed does to a run does not come back in all of them. How much a difference varies by seed is taken from all
settings together (a fixed-effects analysis of variance: S settings of n seeds give S(n − 1) degrees of freedom). The level of
each interval is Bonferroni's over all pairs of methods, since the best is known from runs that it is judged by (with other rows
to tune on, a run that was lucky is lucky on both), and over both ways to be ahead: tuned, and over settings. Test rows are taken
as they are: intervals are of training, on these rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["claims", "compared", "nested_interval", "sentence"]

LEVEL = 0.95
POOLED = 4
"""Settings from which on they may be taken for more seeds: whether they matter can't be told from fewer."""
Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""Method, setting, and a score a seed; the same settings and seeds for all."""


def nested_interval(values: NDArray[np.float64], level: float = LEVEL) -> list[float] | None:
    """The interval of a mean over settings that stand for others like them, seeds within settings.

    The variance of the mean is that of the settings' means, over S (nested analysis of variance); where several (`POOLED`) differ
    no more than seeds alone would make them, all runs together estimate it.

    Args:
        values: (S, n), a row a setting.
    Returns:
        Low and high; None of a single run, or where one setting has one seed.
    """
    from scipy.stats import t

    settings, seeds = values.shape
    if values.size < 2:
        return None
    within = float(values.var(axis=1, ddof=1).mean()) if seeds > 1 else 0.0
    between = seeds * float(values.mean(axis=1).var(ddof=1)) if settings > 1 else 0.0
    if settings > 1 and (between > within or settings < POOLED):
        variance, freedom = between, settings - 1
    elif settings > 1:
        variance, freedom = (
            ((settings - 1) * between + settings * (seeds - 1) * within) / (values.size - 1),
            values.size - 1,
        )
    else:
        variance, freedom = within, seeds - 1
    half = float(t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance / values.size)
    mean = float(values.mean())
    return [mean - half, mean + half]


def claims(
    test: Scores, tuning: Scores | None, *, higher_is_better: bool = True, comparisons: int | None = None
) -> dict[str, Any]:
    """Which methods are ahead of which.

    Args:
        test: what is judged by, of two methods at least. tuning: what each method's setting is chosen by, on other rows; without
            it, nothing is tuned.
        comparisons: how many pairs are corrected for, of all scores that are looked at; all pairs of one where nothing is said.
    Returns:
        For each method its mean, its nested interval, its worst and its tuned setting; the `best` method (of the tuned ones, by
        `tuning`); and for each other one how far that is ahead of it (`compared`).
    """
    sign = 1.0 if higher_is_better else -1.0
    arrays = {method: np.array(list(by_setting.values()), float) for method, by_setting in test.items()}
    settings = list(next(iter(test.values())))
    chosen = _tuned(tuning, sign)
    if tuning:
        best = max(test, key=lambda method: sign * float(np.mean(tuning[method][settings[chosen[method]]])))
    else:
        best = max(test, key=lambda method: sign * float(arrays[method].mean()))
    pairs = comparisons or math.comb(len(test), 2)
    about = partial(compared, test, tuning, best, higher_is_better=higher_is_better, comparisons=pairs)
    return {
        "best": best,
        "settings": settings,
        "seeds": int(arrays[best].shape[1]),
        "comparisons": pairs,
        "level": _level(pairs, tuning, settings),
        "methods": {method: _about(values, settings, sign, chosen.get(method)) for method, values in arrays.items()},
        "ahead_of": {other: about(other) for other in test if other != best},
    }


def compared(
    test: Scores, tuning: Scores | None, one: str, other: str, *, higher_is_better: bool = True, comparisons: int = 1
) -> dict[str, Any]:
    """How far one method is ahead of another; positive is better.

    Args:
        test, tuning, comparisons: as in `claims`.
    Returns:
        The difference and its interval when each is `tuned`, `over_settings` (nested), in the `worst` setting, and the `verdict`:
        "ahead" (tuned, and in every setting tried), "ahead when tuned", "ahead over settings", or "open".
    """
    from scipy.stats import t

    sign, settings = (1.0 if higher_is_better else -1.0), list(test[one])
    values = [sign * np.array(list(test[method].values()), float) for method in (one, other)]
    paired, level = values[0] - values[1], _level(comparisons, tuning, settings)
    count, seeds = paired.shape
    quantile = float(t.ppf((1 + level) / 2, count * (seeds - 1))) if seeds > 1 else math.inf

    def half(*samples: NDArray[np.float64]) -> float:
        """Of the mean of one sample in one setting, or of the difference of two."""
        if seeds < 2:
            return math.inf
        return quantile * math.sqrt(sum(float(sample.var(axis=1, ddof=1).mean()) for sample in samples) / seeds)

    def around(mean: float, half: float) -> dict[str, Any]:
        return {"difference": mean, "ci": [mean - half, mean + half] if math.isfinite(half) else None}

    means = paired.mean(axis=1)
    worst, nested = int(np.argmin(means)), nested_interval(paired, level)
    found: dict[str, Any] = {
        "over_settings": {"difference": float(means.mean()), "ci": nested},
        "worst": {"setting": settings[worst]} | around(float(means[worst]), half(paired)),
    }
    tuned_ahead = True
    if chosen := _tuned(tuning, sign):
        mine, theirs = chosen[one], chosen[other]
        width = half(paired) if mine == theirs else half(*values)  # in different settings runs have no seeds in common
        found["tuned"] = around(float(values[0][mine].mean() - values[1][theirs].mean()), width)
        tuned_ahead = bool(found["tuned"]["difference"] > width)
    if tuned_ahead and means[worst] > half(paired):
        verdict = "ahead"
    elif tuned_ahead and chosen:
        verdict = "ahead when tuned"
    elif nested is not None and nested[0] > 0 and count > 1 and seeds > 1:
        verdict = "ahead over settings"
    else:
        verdict = "open"
    return found | {"verdict": verdict}


def _tuned(tuning: Scores | None, sign: float) -> dict[str, int]:
    """The place of each method's best setting, by the rows to tune on."""
    return {
        method: int(np.argmax([sign * float(np.mean(scores)) for scores in by_setting.values()]))
        for method, by_setting in (tuning or {}).items()
    }


def _level(comparisons: int, tuning: Scores | None, settings: Sequence[str]) -> float:
    return 1 - (1 - LEVEL) / (comparisons * (2 if tuning and len(settings) > 1 else 1))


def _about(values: NDArray[np.float64], settings: Sequence[str], sign: float, chosen: int | None) -> dict[str, Any]:
    means = values.mean(axis=1)
    worst = int(np.argmin(sign * means))
    found = {
        "mean": float(means.mean()),
        "ci": nested_interval(values),
        "worst": {"setting": settings[worst], "mean": float(means[worst])},
    }
    if chosen is not None:
        found["tuned"] = {"setting": settings[chosen], "mean": float(means[chosen]), "values": values[chosen].tolist()}
    return found


def sentence(found: Mapping[str, Any], score: str, digits: int = 1) -> str:
    """What may be claimed, in words; differences with so many digits after the point."""
    best, count, seeds = found["best"], len(found["settings"]), found["seeds"]
    tuned = "tuned" in found["methods"][best]
    tried = f"{count} settings" if count > 1 else "one setting (--vary tries others)"
    base = f"{score}, {tried}, {seeds} seed{'s' * (seeds != 1)}: "
    if seeds < 2:
        return base + "one seed says nothing of chance, and nothing may be claimed."
    by = "when each is tuned with the same budget" if tuned else "at the recipe's settings"
    parts = []
    for verdict, words in (
        ("ahead", f"{by}, and in each setting that was tried" if count > 1 else by),
        ("ahead when tuned", f"{by}, but not in each setting that was tried"),
        ("ahead over settings", "on average over settings, but not in each"),
    ):
        others = {name: one for name, one in found["ahead_of"].items() if one["verdict"] == verdict}
        if others:
            listed = ", ".join(f"{name} by {_shown(one, verdict, digits)}" for name, one in others.items())
            parts.append(f"{best} is ahead of {listed} {words}")
    if still := [name for name, one in found["ahead_of"].items() if one["verdict"] == "open"]:
        parts.append(f"between {best} and {', '.join(still)} nothing may be claimed")
    return base + "; ".join(parts) + "."


def _shown(one: Mapping[str, Any], verdict: str, digits: int) -> str:
    said = one["over_settings"] if verdict == "ahead over settings" or "tuned" not in one else one["tuned"]
    low, high = said["ci"] or (math.nan, math.nan)
    return f"{said['difference']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
