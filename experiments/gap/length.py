"""How much of the differences between ways across the gap is only how much they tell.

    python experiments/gap/advice.py --only single           # trains the runs
    python experiments/gap/length.py                         # looks at those that are finished, each once; a stopped one goes on
    python experiments/gap/length.py --seeds 0               # in a second process
    python experiments/gap/length.py --record                # only write down what is done

Every run is scored as it was trained, with a length penalty of 1, and with the one that makes its texts of validation pictures
as long as its training texts (`close match-length`), which asks for no caption of a picture. Writes length.json, .md, .png.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from advice import advised, changes_of, sweep_arms
from gap_lab import CEILING, Lab, options
from lab import looked, matched, tell, write_record

from close.io.files import waiting
from close.io.plots import figure, save_png
from close.runs.folder import RUN_FILE
from close.study.arms import Arm
from close.study.export import cell
from close.study.results import interval
from close.study.sweep import run_folder

KEYS = ("cider", "attribute_accuracy", "attribute_recall", "characters")
WAYS = ("as trained", "as long as its texts")


def both(lab: Lab, folder: Path, title: str) -> dict[str, Any] | None:
    """Scores of one run both ways, and the penalty; None where it is not looked at, and nothing is to be done."""
    if lab.args.record and not (folder / "matched.json").is_file():
        return None
    with waiting(Path(f"{folder}.lock")):
        about, found = matched(folder, lab.rows("val")), {}
    for way, penalty in zip(WAYS, (1.0, about["length_penalty"]), strict=True):
        name = f"length-{way.replace(' ', '-')}"
        with waiting(Path(f"{folder}.lock")):
            look = {"data": lab.rows("test"), "length_penalty": penalty}
            scores = looked(folder, name, look, record=lab.args.record)
        if scores is None:
            return None
        out = folder / "evaluations" / name
        lines = (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        said = float(np.mean([len(json.loads(line)["text"]) for line in lines]))
        found[way] = {key: scores[key] for key in KEYS[:3]} | {"characters": said}
    if not lab.args.record:
        tell(
            f"{title}: CIDEr {found[WAYS[0]]['cider']:.1f}, then {found[WAYS[1]]['cider']:.1f} at {about['length_penalty']:g}"
        )
    return found | {"penalty": about["length_penalty"], "wanted": about["wanted"], "reached": about["reached"]}


def arms_of(lab: Lab) -> dict[str, dict[str, Any]]:
    """Those of single captioning, with what is advised, and the one that is trained on images."""
    arms = sweep_arms(lab, "single")
    arms |= {f"advised from {kind}": changes_of(lab, said) for kind, said in advised(lab, "single").items()}
    return arms | {"image": CEILING}


def summarised(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Both ways: means and intervals over seeds; what matching brings within a seed."""
    found: dict[str, Any] = {way: {key: interval([run[way][key] for run in runs]) for key in KEYS} for way in WAYS}
    before, after = ([run[way]["cider"] for run in runs] for way in WAYS)
    found["brings"] = interval([b - a for a, b in zip(before, after, strict=True)])
    return found | {"penalty": interval([run["penalty"] for run in runs]), "seeds": [run["seed"] for run in runs]}


def spread(arms: dict[str, Any]) -> dict[str, Any]:
    """Of CIDEr, both ways: how far seeds lie apart within an arm, and arms from each other; how it hangs on the length."""
    from scipy.stats import spearmanr

    found: dict[str, Any] = {}
    able = [arm for name, arm in arms.items() if name != "image" and len(arm["seeds"]) > 1]
    for way in WAYS:
        values = [arm[way]["cider"]["values"] for arm in able]
        lengths = [abs(np.log(arm[way]["characters"]["mean"] / arm["wanted"])) for arm in able]
        means = [float(np.mean(one)) for one in values]
        found[way] = {
            "seeds": float(np.sqrt(np.mean([np.var(one, ddof=1) for one in values]))) if values else None,
            "arms": float(np.std(means, ddof=1)) if len(means) > 1 else None,
            "rank_correlation_with_distance_of_length": float(spearmanr(lengths, means).statistic)
            if len(means) > 2
            else None,
        }
    return found


def markdown(record: dict[str, Any]) -> str:
    """Arms, the best after matching first."""
    lines = [
        "| | CIDEr as trained | as long as its texts | brings | penalty | characters | then | seeds that reach it | true % "
        "| then | told % | then |"
    ]
    lines += ["|---" * 12 + "|"]
    order = sorted(record["arms"].items(), key=lambda item: -item[1][WAYS[1]]["cider"]["mean"])
    for name, arm in order:
        one, two = (arm[way] for way in WAYS)
        cells = [one["cider"], two["cider"], arm["brings"], arm["penalty"], one["characters"], two["characters"]]
        cells += [
            one["attribute_accuracy"],
            two["attribute_accuracy"],
            one["attribute_recall"],
            two["attribute_recall"],
        ]
        shown = [f"{value['mean']:.2f}" if value is arm["penalty"] else cell(value) for value in cells]
        reached = [run["reached"] for run in record["runs"][name]]
        shown.insert(6, f"{sum(reached)} of {len(reached)}")
        lines.append(f"| {name} | {' | '.join(shown)} |")
    for way, said in record["spread"].items():
        lines += [
            "",
            f"CIDEr {way}: {', '.join(f'{key} {value:.2f}' for key, value in said.items() if value is not None)}",
        ]
    return "\n".join(lines) + "\n"


def plot(record: dict[str, Any], path: Path) -> None:
    """From what an arm tells as trained to what it tells then."""
    drawn = figure(9, 6)
    axes = drawn.subplots()
    for name, arm in record["arms"].items():
        points = [(arm[way]["characters"]["mean"], arm[way]["cider"]["mean"]) for way in WAYS]
        colour = "#c77f2a" if name == "image" else "#1f7a63" if "shared" in name or "groups" in name else "#5d6b7e"
        axes.annotate("", points[1], points[0], arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.2})
        axes.plot(*points[0], "o", color=colour, markersize=3)
        axes.annotate(name, points[0], fontsize=6, color=colour, xytext=(2, 2), textcoords="offset points")
    axes.margins(x=0.12)
    axes.axvline(record["wanted"], color="#1d2733", lw=1, ls="--")
    axes.set_xlabel("characters of a caption (dashed: of the training texts)")
    axes.set_ylabel("CIDEr on pictures")
    axes.set_title("From as trained to as long as its texts", fontsize=10)
    axes.grid(color="#e3e7ee", linewidth=0.8)
    axes.set_axisbelow(True)
    save_png(drawn, path)


def main() -> None:
    args = options(__doc__ or "", ("single",), "length.json")
    lab = Lab(args)
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in args.seeds:
        for title, changes in arms_of(lab).items():
            folder = run_folder(lab.base, Arm("run", changes), seed, lab.place)[1]
            if (folder / RUN_FILE).is_file() and (found := both(lab, folder, f"{title}, seed {seed}")):
                runs.setdefault(title, []).append({"seed": seed, **found})
    if not runs:
        raise SystemExit("no run is finished here yet: experiments/gap/advice.py trains them")
    wanted = next(iter(runs.values()))[0]["wanted"]
    arms = {title: summarised(each) | {"wanted": wanted} for title, each in runs.items()}
    record = {"arms": arms, "wanted": wanted, "spread": spread(arms), "runs": runs, **lab.about()}
    write_record(args.out, record, markdown, plot)


if __name__ == "__main__":
    main()
