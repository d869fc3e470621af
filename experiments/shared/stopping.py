"""Does the best checkpoint, chosen while a run is trained, save `shared` from too little noise for its length of training?

    python experiments/shared/stopping.py                      # 24 runs of two minutes; a stopped one goes on
    python experiments/shared/stopping.py --record             # train nothing: write down what is finished

Runs as long as the demo's, `shared` with less noise than that length wants, and noise alone beside it. Each holds its last
checkpoint, or that with the highest CIDEr on validation texts that stand in for pictures (`training.metric_for_best`), every
125 steps: captions alone, or captions carried to where pictures without captions lie (`data.val_images`). Each seed has another
warm-up. Scored on test pictures, as trained and told alike. Writes stopping.json, .md and .png beside this file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import BY_SEED, Lab, Runs, arms_table, dots, noise, parser, shared_by, summary

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.io.files import write_text
from close.vectors.cache import cached_table

EVERY = 125
"""Steps from one checkpoint to the next."""


def settings(lab: Lab) -> dict[str, dict[str, Any]]:
    """What a run holds, by title: of the recipe's training, and of its data."""
    rows, val = lab.data("train") / "captions.jsonl", lab.data("val") / "texts.jsonl"
    if not val.is_file():
        captions = map(json.loads, val.with_name("captions.jsonl").read_text(encoding="utf-8").splitlines())
        told = [{key: value for key, value in row.items() if key != "image"} for row in captions]
        write_text(val, "".join(json.dumps(row) + "\n" for row in told))
    images = cached_table(RowFile(rows), load_encoder("mini"), "image").path
    watched = {"metric_for_best": "cider", "save_strategy": "steps", "save_steps": min(EVERY, lab.args.steps)}
    return {
        "the last": {},
        "the best by captions": {"training": watched, "data": {"val": str(val.resolve())}},
        "the best by unpaired pictures": {
            "training": watched,
            "data": {"val": str(val.resolve()), "val_images": str(images.resolve())},
        },
    }


def main() -> None:
    made = parser(__doc__, __file__)
    made.set_defaults(out=Path(__file__).with_suffix(".json"), seeds=[0, 1], steps=1875)
    lab = Lab(made.parse_args(), scores=("cider", "attribute_accuracy", "attribute_recall", "length_ratio"))
    rows, test = lab.data("train") / "captions.jsonl", lab.data("test") / "eval.jsonl"
    looks = {"image": {"data": test}, "alike": {"data": test, "match": lab.data("val") / "eval.jsonl"}}
    arms: dict[str, list[Any]] = {f"`shared`, noise {c:g}": [shared_by(rows), noise(c)] for c in (0.84, 0.67, 0.54)}
    arms |= {"noise 0.67": [noise(0.67)]}
    base, ways, runs = lab.recipe(rows), settings(lab), Runs()
    for seed in lab.args.seeds:
        warm = {key: min(steps, lab.args.steps - 1) for key, steps in BY_SEED[seed % len(BY_SEED)].items()}
        for arm, adapter in arms.items():
            for held, own in ways.items():
                changes = own | {"adapter": adapter, "training": warm | own.get("training", {})}
                if run := lab.run(held, arm, seed, base, changes, looks):
                    runs.setdefault(held, {}).setdefault(arm, []).append(run)
    tables = {
        arm: {held: summary(table[arm], lab.keys) for held, table in runs.items() if arm in table} for arm in arms
    }
    tables = {arm: table for arm, table in tables.items() if table}
    columns = {
        "CIDEr, told alike": lambda arm: arm["alike"]["cider"],
        "as trained": lambda arm: arm["image"]["cider"],
        "attributes true %": lambda arm: arm["alike"]["attribute_accuracy"],
    }
    lab.finish(
        {"arms": tables, "runs": runs},
        lambda record: "\n".join(
            line for arm, table in record["arms"].items() for line in [f"### {arm}", "", *arms_table(table, columns)]
        ),
        lambda record, to: dots(tables, "cider", to),
    )


if __name__ == "__main__":
    main()
