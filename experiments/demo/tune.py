"""How the demo's settings were chosen: the same number of trials for each of its methods, scored on validation pictures.

    python experiments/demo/tune.py
    python experiments/demo/tune.py --only shared --out experiments/demo/tuning_shared.json

Each method gets four trials, learning rate × one of its own: noise strength for CLOSE, length of training for the others
(CLOSE is trained for the longer of the two). The best by CIDEr is what `close demo` uses; test pictures are not touched.
Writes tuning.json beside this file, or --out. A stopped run continues.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from close.demo.run import METHODS, TRAINING
from close.io.files import write_json
from close.io.record import stamp
from close.mini import export
from close.runs.recipe import Recipe
from close.study.arms import Arm
from close.study.sweep import run_arm

RATES = (2e-3, 4e-3)
OWN: dict[str, list[dict[str, Any]]] = {
    "none": [{"adapter": "none", "training": {"epochs": epochs}} for epochs in (4, 8)],
    "close": [{"adapter": [{"gaussian": {"cosine": cosine}}]} for cosine in (0.41, 0.67)],
    "shared": [{"adapter": METHODS["shared"]["adapter"], "training": {"epochs": epochs}} for epochs in (4, 8)],
    "image": [{"adapter": "none", "train_on": "image", "training": {"epochs": epochs}} for epochs in (4, 8)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/demo-tuning"))
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--val-scenes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(OWN), default=list(OWN))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("tuning.json"))
    args = parser.parse_args()
    for split, count in (("train", args.scenes), ("val", args.val_scenes)):
        if not (args.work / split).exists():
            export(args.work / split, split, count, args.seed)
    base = Recipe.model_validate(
        {"data": {"train": args.work / "train" / "captions.jsonl"}, "training": TRAINING, "seed": args.seed}
    )
    trials: dict[str, list[dict[str, Any]]] = {}
    for method in args.only:
        for choice in OWN[method]:
            for rate in RATES:
                changes = choice | {"training": choice.get("training", {}) | {"learning_rate": rate}}
                scores = run_arm(base, Arm(method, changes), args.seed, args.work / "val" / "eval.jsonl", args.work)
                trials.setdefault(method, []).append({"changes": changes, "scores": scores})
                print(method, changes, scores["image"], file=sys.stderr, flush=True)
    best = {method: max(tried, key=lambda trial: trial["scores"]["image"]["cider"]) for method, tried in trials.items()}
    record = {
        "base": base.dump() | {"data": {"train": "train/captions.jsonl"}},
        "val_scenes": args.val_scenes,
        "best": best,
        "trials": trials,
        **stamp(args.work),
    }
    write_json(args.out, record)
    for method, trial in best.items():
        print(method, trial["changes"], trial["scores"]["image"])


if __name__ == "__main__":
    main()
