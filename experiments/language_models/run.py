"""Decoder-only language models beside T5, what is trained of them, and what stands before them, on the mini world.

    python experiments/language_models/run.py                        # all of it; a stopped one goes on
    python experiments/language_models/run.py --only random          # one part …
    python experiments/language_models/run.py --only pretrained      # … and another in a second process
    python experiments/language_models/run.py --record               # train nothing: write down what is finished

`random`: models of one size that start at random, each crossing of the gap. `pretrained`: models that have read the mini
language (models.py), trained whole, by LoRA, and not at all, behind each kind of prefix, on text with noise. `images`: the same
trained on images, which is ClipCap's setting. `slow`: the deep prefix of `pretrained` with a rate of its own. Seeds are
outermost, so that a stopped experiment has all arms with some of them.
Writes results.json, .md and .png beside this file. What a record of the same settings and world has is kept, so that
a stopped experiment goes on elsewhere too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import CROSSINGS, Lab, Runs, arms_table, both_ways, dots, parser, summary
from models import KINDS, made

from close.demo.run import TRAINING
from close.io.files import read_json

PREFIXES: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "length": 10},
    "mlp": {"kind": "mlp", "length": 10},
    "transformer": {"kind": "transformer", "length": 10},
}
"""Of one length, ClipCap's; the Transformer has its eight layers and eight heads."""
TUNES: dict[str, dict[str, Any]] = {"full": {}, "lora": {"tune": "lora", "lora": {"r": 16}}, "none": {"tune": "none"}}
PARTS = {
    "random": "From a random start, linear prefix of 4 tokens",
    "pretrained": "After reading the mini language: text with noise .41",
    "images": "After reading the mini language: trained on images (ClipCap's setting)",
    "slow": "After reading the mini language: text with noise .41, the Transformer learning at a tenth of the rate",
}


def arms(part: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Titles, the language model, and what differs from the base recipe."""
    for kind in KINDS:
        if part == "random":
            for crossing, changes in CROSSINGS.items():
                yield f"{kind}: {crossing}", kind, changes
            continue
        crossing = CROSSINGS["images" if part == "images" else "noise .41"]
        for tune, trained in TUNES.items():
            rate = "learning_rate" if tune == "none" else "prefix_learning_rate"  # the prefix is all that learns
            slow = {"training": {rate: TRAINING["learning_rate"] / 10}} if part == "slow" else {}
            for name, prefix in PREFIXES.items():
                if not slow or name == "transformer":
                    yield f"{kind}, {tune}, {name}", kind, {**crossing, **trained, "prefix": prefix, **slow}


def model(lab: Lab, part: str, kind: str, seed: int) -> Path:
    """Random weights are the seed's own; what has read is one model for all seeds, as GPT-2 is one. Made where it may be."""
    read, steps = (0, 0) if part == "random" else (lab.args.read, lab.args.read_steps)
    folder = lab.place / "models" / (f"{kind}-{seed}" if part == "random" else f"{kind}-read-{read}-{steps}")
    own = seed if part == "random" else 0
    return folder if lab.args.record else made(kind, folder, seed=own, steps=steps, read=read)


def gathered(lab: Lab, parts: list[str], kinds: list[str]) -> Runs:
    """The scores of every run of these parts, trained where it may be; seeds outermost."""
    rows, test = lab.data("train") / "captions.jsonl", lab.data("test") / "eval.jsonl"
    looks = both_ways(test)
    found: Runs = {}
    for seed in lab.args.seeds:
        for part in parts:
            for title, kind, changes in arms(part):
                if kind in kinds:
                    base = lab.recipe(rows, language_model=str(model(lab, part, kind, seed).resolve()))
                    if run := lab.run(part, title, seed, base, changes, looks):
                        found.setdefault(part, {}).setdefault(title, []).append(run)
    return found


def markdown(record: dict[str, Any]) -> str:
    """A table a part."""
    columns = {
        "CIDEr, pictures in": lambda arm: arm["image"]["cider"],
        "attribute accuracy %": lambda arm: arm["image"]["attribute_accuracy"],
        "CIDEr, text in": lambda arm: arm["text"]["cider"],
    }
    tables = [["### " + PARTS[part], "", *arms_table(table, columns)] for part, table in record["parts"].items()]
    return "\n".join(line for table in tables for line in table)


def options() -> argparse.Namespace:
    made = parser(__doc__, __file__)
    made.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    made.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    made.add_argument("--read", type=int, default=20_000, help="scenes whose text is read before")
    made.add_argument("--read-steps", type=int, default=500)
    return made.parse_args()


def main() -> None:
    args = options()
    lab = Lab(args, more=("read", "read_steps"))
    if not args.record:
        gathered(lab, args.only, args.kinds)
    args.record = True
    runs = gathered(lab, list(PARTS), list(KINDS))
    tables = {part: {title: summary(each, lab.keys) for title, each in table.items()} for part, table in runs.items()}
    models = {path.parent.name: read_json(path) for path in sorted((lab.place / "models").glob("*/about.json"))}
    record = {
        "training": TRAINING,
        "models": (lab.kept or {}).get("models", {}) | models,
        "parts": tables,
        "runs": runs,
    }
    shown = {PARTS[part]: table for part, table in tables.items()}
    lab.finish(record, markdown, lambda made, to: dots(shown, "cider", to))


if __name__ == "__main__":
    main()
