"""A sweep as one page: what may be claimed, every arm's scores, the figures, and the same pictures as each arm captions them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from close.adapters.resolve import is_load
from close.adapters.specs import leaves_of
from close.evaluation.page import Figure, index_page
from close.study.export import FEW, captions_of, claimed, fed

__all__ = ["sweep_page"]


def sweep_page(result: Mapping[str, Any], summary: Mapping[str, Any], shown: Sequence[int], folder: Path) -> str:
    """The page of a sweep; its intervals are over seeds.

    Args:
        result: what `side_by_side` returns of one run of each arm. summary: what `sweep.json` says.
        shown: the seeds of these runs, one an arm. folder: the sweep's, with its figures.
    """
    arms = summary["arms_scored"]
    seeds = max(len(arm["seeds"]) for arm in arms.values())
    few = f"Intervals over seeds are given from {FEW} of them on."
    numbers = sorted({*shown})
    named = f"seed {numbers[0]}" if len(numbers) == 1 else f"its first seed ({', '.join(map(str, numbers))} by setting)"
    return index_page(
        {key: value for key, value in result.items() if key != "not_compared"},  # the arms' own scores have them
        title="Sweep",
        over=" ".join([f"Intervals are over {seeds} seeds, by Student's t." if seeds >= FEW else few, *fed(summary)]),
        groups=[_group(name, found, summary, folder) for name, found in arms.items()],
        claims=claimed(summary),
        figures=[
            Figure((folder / f"{name}.svg").read_bytes(), caption) for name, caption in captions_of(summary).items()
        ],
        whose=f"Of each arm the run with {named} speaks" + ("; scores above are of all seeds." if seeds > 1 else "."),
    )


def _group(name: str, found: Mapping[str, Any], summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A line of the table: an arm's means, its intervals where seeds are enough, and what to know of it."""
    share = next(iter(found.get("recovered_share", {}).values()), None)
    notes = [] if share is None or found.get("method", name) in ("none", "image") else [f"recovers {share:.2f}"]
    notes += [f"{found['length_ratio']:.2f} × as long as references"] if "length_ratio" in found else []
    scores, enough = found["image"], len(found["seeds"]) >= FEW
    learnt = _learnt(summary, name, folder)
    return {
        "name": name,
        "notes": [*([", ".join(notes)] if notes else []), *([f"fitted: {'; '.join(learnt)}"] if learnt else [])],
        "scores": {key: score["mean"] for key, score in scores.items()},
        "ci": {key: score["ci"] for key, score in scores.items() if score["ci"] and enough},
    }


def _learnt(summary: Mapping[str, Any], name: str, folder: Path) -> list[str]:
    """What an arm's adapters were fitted on, and which were given fitted."""
    stages = leaves_of(summary["arms"][name].get("adapter", summary["recipe"]["adapter"]))
    given = [str(stage["load"]) for stage in stages if is_load(stage)]
    own = folder / "adapters"  # where this sweep puts what it fits on pairs
    return [
        *summary.get("fitted_on", {}).get(name, ()),
        *(f"{place}, as it was saved" for place in given if Path(place).parent != own),
    ]
