"""Models trained on the mini world with `shared` fitted on few groups and on many, against no `shared`.

    python experiments/shared/trained.py                     # all of it; a stopped one goes on
    python experiments/shared/trained.py --only "470 steps, warm-up 0" "470 steps, warm-up 50"   # and the rest elsewhere
    python experiments/shared/trained.py --record            # train nothing: write down what is finished

The adapter is fitted on so many groups; the training text is all of it, and the noise behind is the same everywhere, but for one
arm with less: what `shared` leaves of a text is less, so that the same noise hides more of it. Seeds, warm-up and the length of
training vary. Each run is scored as it comes, and with texts as long as those of training (`close match-length`, on other
pictures). Writes trained.json, .md and .png beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import Lab, Run, arms_table, dots, first_groups, noise, parser, shared_by, summary

from close.study.results import interval

GROUPS = (30, 100, 300, 3000)
COSINE, LESS, PLAIN = 0.67, 0.84, "no `shared`"
SETTINGS = {
    f"{steps} steps, warm-up {warm}": {"max_steps": steps, "warmup_steps": warm}
    for steps in (470, 938, 1875)
    for warm in (0, 50)
}
"""1,875 steps are the demo's eight epochs."""


def arms(lab: Lab, rows: Path) -> dict[str, dict[str, Any]]:
    """Adapters by title, fitted on the first groups."""
    found = {PLAIN: {"adapter": [noise(COSINE)]}}
    sizes = (count for count in GROUPS if count <= lab.args.scenes)
    stages = {f"{groups} groups": shared_by(first_groups(rows, groups)) for groups in sizes}
    found |= {title: {"adapter": [stage, noise(COSINE)]} for title, stage in stages.items()}
    most = list(stages.items())[-1:]
    return found | {f"{title}, noise {LESS}": {"adapter": [stage, noise(LESS)]} for title, stage in most}


def against(plain: list[Run], runs: list[Run], look: str) -> dict[str, Any] | None:
    """What an arm brings in CIDEr on pictures, seed by seed."""
    base = {run["seed"]: run[look]["cider"] for run in plain}
    apart = [run[look]["cider"] - base[run["seed"]] for run in runs if run["seed"] in base]
    return interval(apart) if apart else None


def markdown(record: dict[str, Any]) -> str:
    """A table a setting."""
    columns = {
        "CIDEr, pictures in": lambda arm: arm["image"]["cider"],
        "against none": lambda arm: arm.get("against image"),
        "told alike": lambda arm: arm["alike"]["cider"],
        "against none, told alike": lambda arm: arm.get("against alike"),
        "attributes true %": lambda arm: arm["image"]["attribute_accuracy"],
        "CIDEr, text in": lambda arm: arm["text"]["cider"],
    }
    tables = [[f"### {setting}", "", *arms_table(table, columns)] for setting, table in record["arms"].items()]
    return "\n".join(line for table in tables for line in table)


def main() -> None:
    made = parser(__doc__, __file__, SETTINGS)
    made.set_defaults(out=Path(__file__).with_suffix(".json"), seeds=[0, 1], steps=1875)
    lab = Lab(made.parse_args())
    rows, test = lab.data("train") / "captions.jsonl", lab.data("test") / "eval.jsonl"
    runs = lab.gathered(SETTINGS, arms(lab, rows), lab.recipe(rows), lab.three_ways(test))
    tables = {name: {arm: summary(each, lab.keys) for arm, each in table.items()} for name, table in runs.items()}
    for name, table in runs.items():
        for arm, each in table.items():
            if arm != PLAIN and PLAIN in table:
                tables[name][arm] |= {
                    f"against {look}": against(table[PLAIN], each, look) for look in ("image", "alike")
                }
    record = {"noise": COSINE, "arms": tables, "runs": runs}
    lab.finish(record, markdown, lambda made, to: dots(tables, "cider", to))


if __name__ == "__main__":
    main()
