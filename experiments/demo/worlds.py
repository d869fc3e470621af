"""The demo's methods on any encoder of the mini world: several noises, seeds and warm-ups; what a new world is judged by.

    python experiments/demo/worlds.py --encoder mini
    python experiments/demo/worlds.py --encoder FOLDER --seeds 0 --warmups 50 --noises 0.41 0.29
    python experiments/demo/worlds.py --warmups 0 --noises 0.41

Every model is trained as `close demo` trains it and scored on the demo's test pictures: as it comes ("image"), and as the demo
does it, with texts as long as those of training ("alike"). The warm-up is a setting here, because it alone moved a headline by 19
CIDEr. Writes worlds.json, by encoder; a stopped run continues, and runs that are done are read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import looked, matched, noise

from close.demo.run import EPOCHS, METHODS, PHOTO_SCENES, TEST_SCENES, TRAIN_SCENES, TRAINING
from close.encoders import load_encoder
from close.io.files import read_json, write_json
from close.io.record import stamp
from close.mini import export
from close.runs.recipe import Recipe
from close.study.arms import Arm
from close.study.results import interval
from close.study.sweep import run_arm, run_folder

SCORES = ("cider", "attribute_accuracy", "attribute_recall")
LOOKS = ("image", "alike", "text")
PAPERS = 0.41
"""The cosine that the paper's default noise leaves."""


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
    parser.add_argument("--record", action="store_true", help="train nothing: sum up what is recorded")
    args = parser.parse_args()
    torch.set_num_threads(1)
    fingerprint = load_encoder(args.encoder).fingerprint
    record = read_json(args.out) if args.out.is_file() else {}
    here = record.setdefault(fingerprint, {"encoder": args.encoder, "scenes": args.scenes, "runs": {}})
    if here["scenes"] != args.scenes:
        raise SystemExit(f"{args.out} is of {here['scenes']} scenes, not {args.scenes}: give another --out")
    for seed in args.seeds if not args.record else ():
        for warmup in args.warmups:
            for arm in arms(args.noises):
                scores = _scored(arm, seed, warmup, args, args.work / fingerprint[:8] / f"warm-up-{warmup}")
                here["runs"].setdefault(f"seed {seed}, warm-up {warmup}", {})[arm.name] = scores
                print(seed, warmup, arm.name, scores["alike"], file=sys.stderr, flush=True)
                here |= stamp(args.work / fingerprint[:8])
                write_json(args.out, record)
    here["summary"] = summary(here["runs"])
    write_json(args.out, record)
    print(json.dumps(here["summary"], indent=2))


def summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By warm-up and look: scores over seeds, and what noise brings and leaves to the ceiling within a seed."""
    found: dict[str, Any] = {}
    for warmup in sorted({name.partition(", ")[2] for name in runs}):
        seeds = [arms for name, arms in runs.items() if name.endswith(warmup)]
        able = [arm for arm in seeds[0] if all(arm in arms for arms in seeds)]
        for look in (look for look in LOOKS if all(look in arms[arm] for arms in seeds for arm in able)):
            by = {key: {arm: [arms[arm][look][key] for arms in seeds] for arm in able} for key in SCORES}
            here = {arm: {key: interval(by[key][arm]) for key in SCORES} for arm in able}
            for title, one, other in (
                ("noise brings", f"close {PAPERS:g}", "none"),
                ("noise leaves", "image", f"close {PAPERS:g}"),
            ):
                if look != "text" and one in able and other in able:
                    pairs = zip(by["cider"][one], by["cider"][other], strict=True)
                    here[title] = interval([high - low for high, low in pairs])
            found.setdefault(warmup, {})[look] = here
    return found


def arms(noises: list[float]) -> list[Arm]:
    """The demo's methods, CLOSE at each noise; each as long as the demo trains it."""
    found = []
    for name, changes in METHODS.items():
        training = {"training": {"epochs": EPOCHS[name]}}
        if name != "close":
            found.append(Arm(name, changes | training))
            continue
        found += [Arm(f"close {cosine:g}", {"adapter": [noise(cosine)]} | training) for cosine in noises]
    return found


def _scored(arm: Arm, seed: int, warmup: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = {}
    for split, count in (("train", args.scenes), ("val", PHOTO_SCENES), ("test", TEST_SCENES)):
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
    test = data["test"] / "eval.jsonl"
    scores, run = run_arm(base, arm, seed, test, folder), run_folder(base, arm, seed, folder)[1]
    told = looked(run, "alike", {"data": test, "match": data["val"] / "images"}, record=False) or {}
    penalty = matched(run, data["val"] / "images")["length_penalty"]
    return scores | {"alike": {key: told[key] for key in scores["image"]} | {"length_penalty": penalty}}


if __name__ == "__main__":
    main()
