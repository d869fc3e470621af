"""`python -m experiments.bench.precision`: does training in bf16 cost quality? CLOSE on the mini world, six seeds each.

The demo's recipe with half its steps, as in experiments/tasks/mini_table1.py. Writes precision.json, .md and .png.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch

from close.demo.run import METHODS, TEST_SCENES, TRAIN_SCENES, TRAINING
from close.fast.precision import has_bf16
from close.io.files import write_text
from close.mini import export
from close.runs.recipe import Recipe
from close.study.arms import Arm
from close.study.sweep import sweep


def main() -> None:
    """Both precisions with every seed."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.precision")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--work", type=Path, default=Path("runs/precision"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(""), help="without an ending")
    options = parser.parse_args()
    if not has_bf16(torch.device("cpu")):
        raise SystemExit("this processor has no bf16 products; nothing to compare")
    for split, count in (("train", TRAIN_SCENES), ("test", TEST_SCENES)):
        if not (options.work / split).exists():
            export(options.work / split, split, count, 0)
    training = TRAINING | {"epochs": float(TRAINING["epochs"]) / 2}  # type: ignore[arg-type]
    data = {"train": options.work / "train" / "captions.jsonl"}
    base = Recipe.model_validate({"data": data, "training": training, **METHODS["close"]})
    arms = [Arm(name, {"training": {"precision": name}}) for name in ("fp32", "bf16")]
    seeds = range(options.seeds)
    sweep(
        base,
        arms,
        seeds,
        options.work / "test" / "eval.jsonl",
        options.work,
        tell=lambda line: print(line, file=sys.stderr),
    )
    for suffix in ("md", "png"):
        shutil.copy(options.work / f"sweep.{suffix}", options.out.with_suffix(f".{suffix}"))
    record = (options.work / "sweep.json").read_text(encoding="utf-8")
    write_text(options.out.with_suffix(".json"), record.replace(f"{options.work}/", ""))
    print((options.work / "sweep.md").read_text())


if __name__ == "__main__":
    main()
