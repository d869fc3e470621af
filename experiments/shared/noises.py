"""Which noise goes behind `shared`, by the length of training, and whether validation can tell: on texts alone, or on pictures.

    python experiments/shared/noises.py                      # all of it; a stopped one goes on
    python experiments/shared/noises.py --only "470 steps"   # and the rest elsewhere
    python experiments/shared/noises.py --record             # train nothing: write down what is finished

Noise alone and noise behind `shared` (of all groups), four strengths and three lengths of training; each seed has another
warm-up. Every run is scored on test pictures as trained and told alike, and by what it may be chosen by: validation texts that
stand in for pictures (`close sweep --select`), made of captions alone, or of captions and unpaired pictures; and validation
pictures with captions. "Chosen" is the run of one seed and length that validation likes best, of noise alone, and of all.
`shared` of few groups has two strengths in each length and is chosen alike: does it harm whoever has few?
Writes noises.json, .md and .png beside this file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import BY_SEED, Lab, Run, Runs, arms_table, first_groups, noise, parser, shared_by, summary

from close.data.rows import RowFile
from close.demo.run import TRAINING
from close.encoders import load_encoder
from close.io.plots import figure, save_png
from close.study.export import cell
from close.study.results import interval
from close.vectors.cache import cached_table

COSINES = (0.84, 0.67, 0.54, 0.41)
SETTINGS: dict[str, dict[str, Any]] = {f"{steps} steps": {"max_steps": steps} for steps in (470, 938, 1875)}
"""1,875 steps are the demo's eight epochs."""
SLOW = "1875 steps, half the rate"
SETTINGS[SLOW] = {"max_steps": 1875, "learning_rate": TRAINING["learning_rate"] / 2}
"""Whether too little noise harms a long training because it goes too fast; of some arms."""
CHOOSERS = {
    "captions alone": "chosen by captions",
    "captions and unpaired pictures": "chosen by unpaired",
    "validation pictures": "val alike",
}
"""What a run is chosen by, and the look that says it."""
FEW = {count: f"`shared` of {count} groups, " for count in (30, 100, 300)}
PLAIN, WITH = "noise", "`shared`, "
"""How titles begin."""
TRIED = {"470 steps": (0.84, 0.67)}
"""Behind `shared` of few groups; elsewhere the two below."""
OTHERWISE = (0.67, 0.54)


def arms(lab: Lab, rows: Path, setting: str) -> dict[str, dict[str, Any]]:
    """Noise alone, behind `shared`, and behind `shared` of few groups, by title."""
    every, few = [shared_by(rows)], TRIED.get(setting, OTHERWISE)
    stages: list[tuple[str, list[Any], tuple[float, ...]]] = [("", [], COSINES), (WITH, every, COSINES)]
    if setting == SLOW:
        stages = [("", [], (0.67,)), (WITH, every, COSINES[:3])]
    else:
        sizes = (count for count in FEW if count < lab.args.scenes)
        stages += [(FEW[count], [shared_by(first_groups(rows, count))], few) for count in sizes]
    return {f"{name}{PLAIN} {c:g}": {"adapter": [*stage, noise(c)]} for name, stage, tried in stages for c in tried}


def chosen(table: Mapping[str, list[Run]], name: str, chooser: str, look: str = "alike") -> dict[str, Any] | None:
    """What choosing gives in CIDEr on test pictures, run by run of a seed: among noise alone, among all, and the difference.

    Args:
        table: a length's arms. name: how the titles begin of what is chosen from beside noise alone; None is returned where no
            seed has both. chooser: the look that says which. look: the one that is asked.
    """
    own = {
        title: {run["seed"]: run for run in each} for title, each in table.items() if title.startswith((PLAIN, name))
    }
    plain, others = ([title for title in own if title.startswith(start)] for start in (PLAIN, name))
    seeds = sorted(set.intersection(*map(set, own.values()))) if own else []
    if len(plain) < len(COSINES) or not others or not seeds:
        return None
    found: dict[str, list[Any]] = {"noise alone": [], "all": [], "best of all": [], "arms": []}
    for seed in seeds:

        def best(among: Iterable[str], by: str) -> str:
            return max(among, key=lambda title: own[title][seed][by]["cider"])  # noqa: B023

        picked = {"noise alone": best(plain, chooser), "all": best(own, chooser), "best of all": best(own, look)}
        found["arms"].append([picked["noise alone"], picked["all"]])
        for key, title in picked.items():
            found[key].append(own[title][seed][look]["cider"])
    apart = [one - other for one, other in zip(found["all"], found["noise alone"], strict=True)]
    return {key: interval(values) if key != "arms" else values for key, values in (found | {"brings": apart}).items()}


def choices(runs: Runs) -> dict[str, Any]:
    """By length of training, what stands beside noise alone, and chooser."""
    found: dict[str, Any] = {}
    for setting, table in runs.items():
        for name in (WITH, *FEW.values()):
            by = {title: chosen(table, name, look) for title, look in CHOOSERS.items()}
            if all(by.values()):
                found.setdefault(setting, {})[name.rstrip(", ")] = by
    return found


def markdown(record: dict[str, Any]) -> str:
    """A table a length of training; then what choosing brings."""
    columns = {
        "CIDEr, told alike": lambda arm: arm["alike"]["cider"],
        "as trained": lambda arm: arm["image"]["cider"],
        "attributes true %": lambda arm: arm["alike"]["attribute_accuracy"],
        **{f"by {name}": lambda arm, by=by: arm[by]["cider"] for name, by in CHOOSERS.items()},
    }
    lines = []
    for setting, table in record["arms"].items():
        lines += [f"### {setting}", "", *arms_table(table, columns)]
    lines += ["### Chosen run by run, CIDEr told alike on test pictures", ""]
    lines += ["| length | beside noise alone | chosen by | of noise alone | of all | what it brings | best of all |"]
    lines += ["|---" * 7 + "|"]
    for setting, beside in record["chosen"].items():
        for name, by in beside.items():
            for chooser, one in by.items():
                cells = [cell(one[key]) for key in ("noise alone", "all", "brings", "best of all")]
                lines.append(f"| {setting} | {name} | {chooser} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def plot(record: Mapping[str, Any], path: Path) -> None:
    """CIDEr told alike against noise, a panel a length of training."""
    drawn = figure(11, 3.6)
    panels = drawn.subplots(1, len(record["arms"]), sharey=True, squeeze=False)[0]
    for panel, (setting, table) in zip(panels, record["arms"].items(), strict=True):
        for name, label, colour in (("", "noise alone", "#1f7a63"), (WITH, "behind shared", "#5b53a3")):
            scores = {
                place: table[title]["alike"]["cider"]
                for place, c in enumerate(COSINES)
                if (title := f"{name}{PLAIN} {c:g}") in table
            }
            panel.plot(list(scores), [one["mean"] for one in scores.values()], "o-", color=colour, label=label)
            for at, score in scores.items():
                panel.plot([at] * len(score["values"]), score["values"], "_", color=colour, markersize=9)
        panel.set_xticks(range(len(COSINES)), [f"{c:g}" for c in COSINES])
        panel.set_title(setting, fontsize=9, loc="left")
        panel.set_xlabel("noise: the cosine it leaves")
        panel.grid(axis="y", color="#e3e7ee", linewidth=0.8)
        panel.set_axisbelow(True)
    panels[0].set_ylabel("CIDEr on pictures, told alike")
    panels[0].legend(frameon=False, fontsize=8)
    save_png(drawn, path)


def main() -> None:
    made = parser(__doc__, __file__, SETTINGS)
    made.set_defaults(out=Path(__file__).with_suffix(".json"), seeds=[0, 1], steps=1875)
    lab = Lab(made.parse_args(), scores=("cider", "attribute_accuracy", "attribute_recall", "length_ratio"))
    rows = lab.data("train") / "captions.jsonl"
    val, test = (lab.data(split) / "eval.jsonl" for split in ("val", "test"))
    images = cached_table(RowFile(rows), load_encoder("mini"), "image").path
    looks = {
        "image": {"data": test},
        "alike": {"data": test, "match": val},
        "chosen by captions": {"select": val, "match": val},
        "chosen by unpaired": {"select": val, "image": images, "match": val},
        "val alike": {"data": val, "match": val},
    }
    runs = lab.gathered(SETTINGS, partial(arms, lab, rows), lab.recipe(rows), looks, BY_SEED)
    tables = {name: {arm: summary(each, lab.keys) for arm, each in table.items()} for name, table in runs.items()}
    record = {"arms": tables, "chosen": choices(runs), "runs": runs}
    lab.finish(record, markdown, plot)


if __name__ == "__main__":
    main()
