"""How the demo's settings were chosen: the same number of trials for each of the three methods, scored on validation pictures.

    python experiments/demo/tune.py

Each method gets six trials: two learning rates × two choices of its own (noise strength for CLOSE, length of training for the
other two), and two more lengths at the lower rate. The best by CIDEr is what `close demo` uses; test pictures are not touched.
Writes tuning.json beside this file. A stopped run continues.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from close.demo import TRAINING
from close.files import write_json
from close.mini import export
from close.recipe import Recipe
from close.runs import versions
from close.sweep import Arm, run_arm

LOW, HIGH = 2e-3, 4e-3
COSINE = 0.67


def trial(rate: float, epochs: int, **differs: Any) -> dict[str, Any]:
    return {"adapter": "none", **differs, "training": {"epochs": epochs, "learning_rate": rate}}


def noise(cosine: float) -> list[dict[str, Any]]:
    return [{"gaussian": {"cosine": cosine}}]


def lengths(**differs: Any) -> list[dict[str, Any]]:
    return [
        trial(rate, epochs, **differs)
        for rate, epochs in ((LOW, 4), (LOW, 8), (HIGH, 4), (HIGH, 8), (LOW, 2), (LOW, 16))
    ]


TRIALS: dict[str, list[dict[str, Any]]] = {
    "none": lengths(),
    "close": [trial(rate, 8, adapter=noise(cosine)) for rate in (LOW, HIGH) for cosine in (0.41, COSINE)]
    + [trial(LOW, epochs, adapter=noise(COSINE)) for epochs in (4, 16)],
    "image": lengths(train_on="image"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/demo-tuning"))
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--val-scenes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for split, count in (("train", args.scenes), ("val", args.val_scenes)):
        if not (args.work / split).exists():
            export(args.work / split, split, count, args.seed)
    base = Recipe.model_validate(
        {"data": {"train": args.work / "train" / "captions.jsonl"}, "training": TRAINING, "seed": args.seed}
    )
    trials: dict[str, list[dict[str, Any]]] = {}
    for method, choices in TRIALS.items():
        for changes in choices:
            scores = run_arm(base, Arm(method, changes), args.seed, args.work / "val" / "eval.jsonl", args.work)
            trials.setdefault(method, []).append({"changes": changes, "scores": scores})
            print(method, changes, scores["image"], file=sys.stderr, flush=True)
    best = {method: max(tried, key=lambda trial: trial["scores"]["image"]["cider"]) for method, tried in trials.items()}
    record = {
        "base": base.dump(),
        "val_scenes": args.val_scenes,
        "best": best,
        "trials": trials,
        "versions": versions(),
    }
    write_json(Path(__file__).with_name("tuning.json"), record)
    for method, trial in best.items():
        print(method, trial["changes"], trial["scores"]["image"])


if __name__ == "__main__":
    main()
