"""From nothing to one picture's text: `close caption RUN photo.jpg` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from close.demo.run import TRAINING
from close.mini import export
from close.runs.recipe import Recipe
from close.training.train import train
from experiments.bench.parts import Timed, Variants, timed


def cold_start(folder: Path) -> Variants:
    """The mini run; plain is every library's own way of importing, the floor is `import torch` alone."""
    mini_run(folder, scenes=20, steps=1)
    photo = min((folder / "data" / "images").iterdir())
    caption = ["-m", "close", "caption", str(folder / "run"), str(photo)]
    return {
        "plain": process(*caption, CLOSE_FAST="0"),
        "auto": process(*caption),
        "floor_auto": process("-c", "import torch"),
    }


def mini_run(folder: Path, scenes: int, steps: int) -> Path:
    """A run of the mini world, in `folder / "run"`; its scenes are in `folder / "data"`."""
    export(folder / "data", "train", scenes, 0)
    data = {"train": str(folder / "data" / "captions.jsonl")}
    recipe = Recipe.model_validate({"data": data, "training": TRAINING | {"max_steps": steps}})
    train(recipe, folder / "run", overwrite=True)
    return folder / "run"


LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""
"""A small process between: a child counts the memory of the one that it came from."""


def process(*arguments: str, **environment: str) -> Callable[[int], Timed]:
    """A Python process on one thread.

    Counted are the seconds of its processor, which are those of the clock where nothing else runs; `peak_mb` is its most memory,
    pages of libraries among them.
    """
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *arguments]

    def run(number: int) -> Timed:
        own = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        clock, done = timed(lambda: subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True, check=True))
        code, seconds, peak = map(float, done.stdout.split())
        if code:
            raise SystemExit(f"{' '.join(arguments)}: exit status {code:.0f}")
        return seconds, 1, {"clock_seconds": clock, "peak_mb": peak}

    return run
