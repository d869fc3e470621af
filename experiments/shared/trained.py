"""Models trained on the mini world with `shared` fitted on few groups and on many, against no `shared`.

    python experiments/shared/trained.py                     # every run; a stopped experiment continues
    python experiments/shared/trained.py --seeds 0 --warmup 50 --groups 30 3000
    python experiments/shared/trained.py --record            # only write down what is finished
    python experiments/shared/trained.py --encoder runs/other --work runs/shared-other --out other.json

The adapter is fitted on so many groups; the training text is all of it, and the noise behind is the same everywhere. Seeds and
warm-up vary.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from close.data.rows import RowFile
from close.demo.run import TRAINING
from close.encoders import load_encoder
from close.io.files import waiting, write_json
from close.io.record import stamp
from close.mini import export
from close.mini.export import CAPTIONS_PER_SCENE
from close.runs.folder import RUN_FILE
from close.runs.recipe import Recipe
from close.study.arms import Arm
from close.study.sweep import run_arm, run_folder
from close.vectors.cache import cached_table

GROUPS = (30, 100, 300, 3000)
RULES: dict[str, dict[str, Any]] = {"now": {}, "as shipped": {"toward": "zero"}}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--warmup", type=int, nargs="+", default=[50, 0])
    parser.add_argument("--groups", type=int, nargs="+", default=list(GROUPS))
    parser.add_argument("--steps", type=int, nargs="+", default=[470], help="1,875 are the demo's eight epochs")
    parser.add_argument("--noise", type=float, default=0.75, help="cosine that it leaves")
    parser.add_argument("--scenes", type=int, nargs=2, default=[3000, 200], help="of training and test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--work", type=Path, default=Path("runs/shared"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("trained.json"))
    parser.add_argument("--record", action="store_true", help="train nothing: write down what is finished")
    return parser.parse_args()


def fitted_on(groups: int, rows: Path, encoder: Any, work: Path) -> dict[str, str]:
    """Text table and data file of the first groups."""
    file = work / f"{rows.parent.name}-first-{groups}.jsonl"
    with waiting(work / "fit.lock"):
        if not file.is_file():
            lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
            file.write_text("".join(lines[: groups * CAPTIONS_PER_SCENE]), encoding="utf-8")
    return {"text": str(cached_table(RowFile(file), encoder, "text").path.resolve()), "groups": str(file.resolve())}


def arms(args: argparse.Namespace, rows: Path, encoder: Any) -> dict[str, Any]:
    """Adapters by title."""
    noise = {"gaussian": {"cosine": args.noise}}
    found: dict[str, Any] = {"no shared": [noise]}
    for rule, own in RULES.items():
        for groups in args.groups:
            fit = fitted_on(groups, rows, encoder, args.work)
            found[f"{rule}, {groups} groups"] = [{"shared": own | {"fit": fit}}, noise]
    return found


def main() -> None:
    args = options()
    torch.set_num_threads(args.threads)
    encoder = load_encoder(args.encoder)
    args.work.mkdir(parents=True, exist_ok=True)
    places = {}
    for split, count in zip(("train", "test"), args.scenes, strict=True):
        places[split] = args.work / f"{split}-{count}"
        with waiting(args.work / "data.lock"):
            if not places[split].exists():
                export(places[split], split, count)
    rows, test = places["train"] / "captions.jsonl", places["test"] / "eval.jsonl"
    found: list[dict[str, Any]] = []
    for steps in args.steps:
        for seed in args.seeds:
            for warmup in args.warmup:
                for title, adapter in arms(args, rows, encoder).items():
                    training = {key: value for key, value in TRAINING.items() if key != "epochs"}
                    training |= {"max_steps": steps, "warmup_steps": warmup}
                    values = {"data": {"train": rows.resolve()}, "encoder": args.encoder, "training": training}
                    base, arm = Recipe.model_validate(values), Arm("run", {"adapter": adapter})
                    folder = run_folder(base, arm, seed, args.work)[1]
                    if args.record and not (folder / RUN_FILE).is_file():
                        continue
                    begun = time.perf_counter()
                    scores = run_arm(base, arm, seed, test, args.work)
                    found.append({"arm": title, "steps": steps, "seed": seed, "warmup": warmup, **scores})
                    told = f"CIDEr {scores['image']['cider']:.1f} in {time.perf_counter() - begun:.0f} s"
                    print(f"{title}, {steps} steps, seed {seed}, warm-up {warmup}: {told}", file=sys.stderr, flush=True)
    record = {
        "encoder": {"reference": args.encoder, "fingerprint": encoder.fingerprint},
        "noise": args.noise,
        "scenes": args.scenes,
        "runs": found,
        **stamp(args.work),
    }
    write_json(args.out, record)
    print(markdown(found))


def markdown(found: list[dict[str, Any]]) -> str:
    """Arms by steps: CIDEr on pictures, mean, and the mean difference from no `shared` of the same seed and warm-up."""
    lines = [
        "| arm | steps | runs | CIDEr, pictures in | against no `shared` | CIDEr, text in |",
        "|---|---|---|---|---|---|",
    ]
    base = {(r["steps"], r["seed"], r["warmup"]): r["image"]["cider"] for r in found if r["arm"] == "no shared"}
    for steps, title in dict.fromkeys((run["steps"], run["arm"]) for run in found):
        runs = [run for run in found if (run["steps"], run["arm"]) == (steps, title)]
        image, text = (np.mean([run[side]["cider"] for run in runs]) for side in ("image", "text"))
        apart = [
            run["image"]["cider"] - base[key]
            for run in runs
            if (key := (run["steps"], run["seed"], run["warmup"])) in base
        ]
        told = f"{np.mean(apart):+.1f} ({min(apart):+.1f} … {max(apart):+.1f})" if apart else "–"
        lines.append(f"| {title} | {steps} | {len(runs)} | {image:.1f} | {told} | {text:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
