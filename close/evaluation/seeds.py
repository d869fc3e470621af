"""What several runs (seeds) a side say beside an interval over examples: how far they lie apart, and an interval over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from close.evaluation.metrics import METRICS

__all__ = ["apart", "over_seeds", "scope"]


def over_seeds(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> dict[str, Any]:
    """The difference b − a of the means of runs, with its interval over runs (Welch's t): each is taken for a draw of its seed.

    No run of A is taken to go with one of B, and the examples are taken as they are.

    Args:
        a, b: the score of each run.
    Returns:
        `difference`, and `ci`: None where a side is a single run, none of them differ, or a score is none (NaN); nothing is
        known of chance then.
    """
    found: dict[str, Any] = {"difference": float(np.mean(b) - np.mean(a)), "ci": None}
    if min(len(a), len(b)) < 2:
        return found
    parts = [float(np.var(side, ddof=1)) / len(side) for side in (a, b)]
    if not 1e-18 <= sum(parts) < math.inf:
        return found
    from scipy.stats import t

    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
    half = float(t.ppf((1 + level) / 2, freedom)) * math.sqrt(sum(parts))
    return found | {"ci": [found["difference"] - half, found["difference"] + half]}


def scope(examples: int) -> str:
    """What the intervals and tests of a comparison are over, in a sentence."""
    return (
        f"Interval and p are over the {examples:,} examples, with these runs as they are: what other seeds would give is not "
        "in them."
    )


def apart(measures: Mapping[str, Mapping[str, Any]], shown: str | None) -> str | None:
    """A warning where runs of one side lie further apart than the interval over examples is wide; None where none do.

    Args:
        measures: as `close.evaluation.compare.compare_scores` returns them. shown: the score that is told before others.
    """
    wide = dict[str, str]()
    for name, row in measures.items():
        spread = {side: float(np.ptp(row[f"runs_{side}"])) for side in "ab"} if "runs_a" in row else {"a": 0.0}
        side = max(spread, key=lambda one: spread[one])
        if row["ci"] and spread[side] > row["ci"][1] - row["ci"][0]:
            wide[name] = side
    if not wide:
        return None
    name = shown if shown in wide else next(iter(wide))
    runs, form = measures[name][f"runs_{wide[name]}"], f".{METRICS.digits(name)}f"
    more = f" (so in {len(wide)} of {len(measures)} scores)" if len(wide) > 1 else ""
    return (
        f"Runs of {wide[name].upper()} lie further apart than the interval is wide: {name} {min(runs):{form}} to "
        f"{max(runs):{form}}{more}. Whether the methods differ, and not just these runs, is what `close sweep --seeds` answers."
    )
