"""What a sweep would train, checked as the sweep checks it: its runs, and which of them are there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from close.errors import written
from close.io.jobs import is_under_way
from close.runs.folder import is_finished, started_run
from close.runs.recipe import Recipe
from close.study.arms import Arm, run_folder
from close.study.checks import checked_base
from close.training.origin import filled_in

__all__ = ["lines_of", "plan"]

_TO_TRAIN = "to be trained"


def plan(
    base: Recipe,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    test: str | Path | None,
    out: str | Path,
    *,
    tune: str | Path | None = None,
    select: str | Path | None = None,
    select_images: str | Path | None = None,
    photos: str | Path | None = None,
    vectors: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Check everything that `sweep` checks before its first run, and that it goes on with the runs that are there.

    `out` stays as it is.

    Args:
        as `sweep` takes them.
    Returns:
        `runs`, how many, and how many of them are `finished` or were `stopped`; `seeds`; `methods` and `settings`, how many;
        and `arms`: of each its `name`, its `method` and `setting` where there are several, and its `runs`: `seed`, `state`
        (finished, stopped, to be trained, being trained), and `folder`, where it is there.
    Raises:
        CloseError: as `sweep`.
    """
    folder = Path(out)
    given: Any = {"test": test, "tune": tune, "select": select, "select_images": select_images, "photos": photos}
    base, arms, _ = checked_base(base, arms, seeds, folder, vectors=vectors, **given)
    planned = list[dict[str, Any]]()
    for arm in arms:
        about = {"method": arm.method, "setting": arm.setting} if arm.setting else {}
        planned.append({"name": arm.name, **about, "runs": [_planned(base, arm, seed, folder) for seed in seeds]})
    states = [run["state"] for one in planned for run in one["runs"]]
    settings = {arm.setting for arm in arms}
    return {
        "runs": len(states),
        "finished": states.count("finished"),
        "stopped": states.count("stopped"),
        "seeds": list(seeds),
        "methods": len(arms) // len(settings),
        "settings": len(settings),
        "arms": planned,
    }


def _planned(base: Recipe, arm: Arm, seed: int, folder: Path) -> dict[str, Any]:
    recipe, place = run_folder(base, arm, seed, folder)
    finished = is_finished(place, filled_in(recipe, place, resume=True), resume=True, overwrite=False)
    state = "finished" if finished else "stopped" if started_run(place) else _TO_TRAIN
    state = "being trained" if is_under_way(place) else state
    return {"seed": seed, "state": state} | ({} if state == _TO_TRAIN else {"folder": str(place)})


def lines_of(planned: Mapping[str, Any]) -> str:
    """A plan in lines: how many runs, and a line an arm, with those below it that are there already."""
    seeds, settings = planned["seeds"], planned["settings"]
    shares = [_many(planned["methods"], "arm" if settings == 1 else "method")]
    shares += [] if settings == 1 else [_many(settings, "setting")]
    shares.append(f"{_many(len(seeds), 'seed')} ({', '.join(map(str, seeds))})")
    there = [f"{planned[state]} {state}" for state in ("finished", "stopped") if planned[state]]
    left = planned["runs"] - planned["finished"]
    lines = [f"{_many(planned['runs'], 'run')}: {' × '.join(shares)}"]
    lines[0] += f"; {', '.join(there)}, {left} to go" if there else ""
    for arm in planned["arms"]:
        new = [run["seed"] for run in arm["runs"] if run["state"] == _TO_TRAIN]
        lines.append(written(arm["name"]) + (f": {_TO_TRAIN} with seed {', '.join(map(str, new))}" if new else ""))
        lines += [
            f"  seed {run['seed']} {run['state']}: {written(run['folder'])}" for run in arm["runs"] if "folder" in run
        ]
    return "\n".join(lines)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
