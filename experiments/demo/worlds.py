"""The demo's three methods on any encoder of the mini world: several noises, seeds and warm-ups; what a new world is judged by.

    python experiments/demo/worlds.py --encoder mini
    python experiments/demo/worlds.py --encoder FOLDER --seeds 0 --warmups 50 --noises 0.41 0.29
    python experiments/demo/worlds.py --warmups 0 --noises 0.41

Every model is trained as `close demo` trains it and scored on the demo's test pictures; the warm-up is a setting here, because
it alone moved a headline by 19 CIDEr. Writes worlds.json, by encoder; a stopped run continues, and runs that are done are read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from close.demo.run import EPOCHS, TEST_SCENES, TRAIN_SCENES, TRAINING
from close.encoders import load_encoder
from close.evaluation.transfer import recovered_share
from close.io.files import read_json, write_json
from close.io.versions import versions
from close.mini import export
from close.runs.recipe import Recipe
from close.study.arms import Arm
from close.study.sweep import run_arm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--warmups", type=int, nargs="+", default=[0, 50], help="steps")
    parser.add_argument(
        "--noises", type=float, nargs="+", default=[0.67, 0.41, 0.29], help="cosines; 0.41 and 0.29 the paper's"
    )
    parser.add_argument("--scenes", type=int, default=TRAIN_SCENES)
    parser.add_argument("--work", type=Path, default=Path("runs/worlds"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    fingerprint = load_encoder(args.encoder).fingerprint
    record = read_json(args.out) if args.out.is_file() else {}
    here = record.setdefault(fingerprint, {"encoder": args.encoder, "scenes": args.scenes, "runs": {}})
    if here["scenes"] != args.scenes:
        raise SystemExit(f"{args.out} is of {here['scenes']} scenes, not {args.scenes}: give another --out")
    for seed in args.seeds:
        for warmup in args.warmups:
            for arm in arms(args.noises):
                scores = _scored(arm, seed, warmup, args, args.work / fingerprint[:8] / f"warm-up-{warmup}")
                here["runs"].setdefault(f"seed {seed}, warm-up {warmup}", {})[arm.name] = scores
                print(seed, warmup, arm.name, scores["image"], file=sys.stderr, flush=True)
                here["versions"] = versions()
                write_json(args.out, record)
    for name, found in here["runs"].items():
        cider = {arm: scores["image"]["cider"] for arm, scores in found.items()}
        close = max((score for arm, score in cider.items() if arm.startswith("close")), default=None)
        share = (
            recovered_share(close, cider["none"], cider["image"])
            if close is not None and {"none", "image"} <= set(cider)
            else None
        )
        print(f"{name}: " + ", ".join(f"{arm} {score:.1f}" for arm, score in cider.items()), f"recovered {share}")


def arms(noises: list[float]) -> list[Arm]:
    """No noise, CLOSE at each noise, and the ceiling; each as long as the demo trains it."""
    close = [
        Arm(f"close {noise:g}", {"adapter": [{"gaussian": {"cosine": noise}}], "training": {"epochs": EPOCHS["close"]}})
        for noise in noises
    ]
    none = Arm("none", {"adapter": "none", "training": {"epochs": EPOCHS["none"]}})
    image = Arm("image", {"adapter": "none", "train_on": "image", "training": {"epochs": EPOCHS["image"]}})
    return [none, *close, image]


def _scored(arm: Arm, seed: int, warmup: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = {}
    for split, count in (("train", args.scenes), ("test", TEST_SCENES)):
        data[split] = args.work / f"{split}-{count}-{seed}"
        if not data[split].exists():
            export(data[split], split, count, seed)
    base = Recipe.model_validate(
        {
            "data": {"train": data["train"] / "captions.jsonl"},
            "encoder": args.encoder,
            "training": TRAINING | {"warmup_steps": warmup},
            "seed": seed,
        }
    )
    return run_arm(base, arm, seed, data["test"] / "eval.jsonl", folder)


if __name__ == "__main__":
    main()
