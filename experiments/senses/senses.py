"""What the experiments on senses share: arms in two settings, and the share that each recovers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import WARM_UPS, Lab, Run, arms_table, both_ways, dots, parser, summary

from close.demo.run import TRAINING
from close.runs.recipe import Recipe
from close.study.results import interval

__all__ = ["options", "study"]


def options(doc: str | None, file: str, **sizes: int) -> argparse.Namespace:
    """What these scripts take; `sizes` instead of the usual ones."""
    made = parser(doc, file, WARM_UPS)
    made.set_defaults(**sizes)
    return made.parse_args()


def study(
    lab: Lab,
    recipe: Recipe,
    rows: Path,
    arms: Mapping[str, Mapping[str, Any]],
    *,
    items: str = "pictures",
    ends: tuple[str, str] = ("none", "images"),
    **looking: Any,
) -> None:
    """Train what is not there, seeds outermost, and write the record, its table and its picture.

    Args:
        rows: to be tested on. ends: the arms that a recovered share is between. looking: what `evaluate` takes.
    """
    done = lab.gathered(WARM_UPS, arms, recipe, both_ways(rows, **looking))
    tables = {name: {arm: summary(runs, lab.keys) for arm, runs in table.items()} for name, table in done.items()}
    for name, table in done.items():
        for arm, share in shares(table, lab.keys[0], *ends).items():
            tables[name][arm]["share"] = share
    record = {"items": items, "training": TRAINING, "arms": tables, "runs": done}
    lab.finish(record, lambda made: markdown(made, lab.keys), lambda made, to: dots(tables, lab.keys[0], to, items))


def shares(table: Mapping[str, list[Run]], key: str, base: str, top: str) -> dict[str, Any]:
    """Of what images gain over text without a crossing, the share that each arm recovers: seed by seed, then the mean.

    A seed in which images gain nothing has no share, and is not counted.
    """
    found: dict[str, list[float]] = {}
    by_seed = {arm: {run["seed"]: run["image"][key] for run in runs} for arm, runs in table.items()}
    for arm, own in by_seed.items():
        for seed, score in own.items():
            low, high = (by_seed.get(name, {}).get(seed) for name in (base, top))
            if arm not in (base, top) and low is not None and high is not None and high > low:
                found.setdefault(arm, []).append(100 * (score - low) / (high - low))
    return {arm: interval(values) for arm, values in found.items()}


def markdown(record: dict[str, Any], keys: tuple[str, ...]) -> str:
    """A table a setting."""
    items = record["items"]
    columns = {f"{key}, {items} in": lambda arm, key=key: arm["image"][key] for key in keys}
    columns |= {
        f"{keys[0]}, text in": lambda arm: arm["text"][keys[0]],
        "share recovered %": lambda arm: arm.get("share"),
    }
    return "\n".join(
        line for name, table in record["arms"].items() for line in [f"### {name}", "", *arms_table(table, columns)]
    )
