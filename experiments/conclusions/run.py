"""What may be concluded on the mini world: claims over training settings and seeds, and what is told against how much is told.

    python experiments/conclusions/run.py                     # all of it; a stopped one goes on
    python experiments/conclusions/run.py --seeds 1           # in a second process
    python experiments/conclusions/run.py --record            # train nothing: write down what is finished

Each method has two trials of its own (its noise, or label smoothing where it has none). The better on validation pictures, told
alike, with a seed that is not used again, is trained in every setting with every seed, and scored on validation and on test
pictures. A claim compares two methods in the same settings with the same seeds (`close.study.claims`), corrected for the number
of claims. The runs of the first setting are searched with several length penalties too: accuracy against recall of attributes,
which CIDEr mixes.
Everything is judged twice: as trained, and with every run's texts made as long as those of training (`close match-length`).
One look is primary: CIDEr told alike, over settings. It was named when seeds 0 and 1 were known and seed 2 was not, so that
seed 2 by itself is what confirms; all other looks are explored. The two claims on noise by the length of training were added then
too, after `experiments/shared/noises.py` had found it with other runs.

Writes results.json, .md and .png beside this file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import ALIKE, SMOOTHED, TUNING_SEED, Lab, Run, Runs, difference, noise, parser

from close.data.rows import RowFile
from close.demo.run import TRAINING
from close.encoders import load_encoder
from close.io.plots import figure, save_png
from close.study.arms import APART
from close.study.claims import compared
from close.study.results import interval
from close.vectors.cache import cached_table

NEIGHBOURS = {"into": "vectors", "k": 5, "noise": 0.67}
METHODS: dict[str, list[dict[str, Any]]] = {
    "none": [{"adapter": "none", **trial} for trial in SMOOTHED],
    "noise": [{"adapter": [noise(cosine)]} for cosine in (0.41, 0.67)],
    "shared + noise": [{"adapter": ["shared", noise(cosine)]} for cosine in (0.54, 0.67)],
    "unpaired images + noise": [
        {"adapter": [{"centring": {"fit": {"image": "V"}}}, noise(cosine)]} for cosine in (0.54, 0.67)
    ],
    "neighbours + noise": [{"adapter": [noise(cosine)], "retrieve": NEIGHBOURS} for cosine in (0.41, 0.67)],
    "images": [{"adapter": "none", "train_on": "image", **trial} for trial in SMOOTHED],
    "noisy images": [{"adapter": [noise(cosine)], "train_on": "image"} for cosine in (0.67, 0.84)],
}
STRENGTHS = (0.84, 0.67, 0.54, 0.41)
BY_LENGTH = "shared + noise by length"
"""What `shared + noise` is, but that half the steps have the next weaker noise, and twice the steps the next stronger one."""
NEXT = {"half the steps": -1, "twice the steps": 1}
CLAIMS = {
    "noise brings text-only training across": ("noise", "none"),
    "`shared` brings more than noise alone": ("shared + noise", "noise"),
    "unpaired images help": ("unpaired images + noise", "noise"),
    "neighbours help": ("neighbours + noise", "noise"),
    "text alone is ahead of images": ("shared + noise", "images"),
    "text alone is ahead of noisy images": ("shared + noise", "noisy images"),
    "noise helps training on images too": ("noisy images", "images"),
    "`shared` brings more, its noise by the length": (BY_LENGTH, "noise"),
    "text alone is ahead of images, its noise by the length": (BY_LENGTH, "images"),
}
RATE = TRAINING["learning_rate"]
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "half the rate": {"learning_rate": RATE / 2},
    "twice the rate": {"learning_rate": 2 * RATE},
    "no warm-up": {"warmup_steps": 0},
    "warm-up 200": {"warmup_steps": 200},
    "half the steps": {"max_steps": 0.5},
    "twice the steps": {"max_steps": 2},
    "batch 32": {"batch_size": 32},
    "other label smoothing": {"label_smoothing_factor": 0.1},
}
"""Changes of the recipe's training; steps are multiples of the experiment's. The last is 0 for a method that has 0.1 already."""
PENALTIES = (-2.0, 0.0, 1.0, 2.0, 4.0)
LOOKS = 4
"""Every claim is looked at as trained and told alike, in two scores: intervals are corrected for all of it."""
SCORES = ("cider", "attribute_accuracy", "attribute_recall", "length_ratio")
CONFIRMS = 2
"""The seed that nobody had seen when the primary look was named."""


def changes(lab: Lab, rows: Path, method: str, trial: int, setting: str) -> dict[str, Any]:
    """What a run has of its own; V becomes a table of the training rows' images, unpaired since no text goes with it."""
    by_length = method == BY_LENGTH
    own, training = METHODS["shared + noise" if by_length else method][trial], dict(SETTINGS[setting])
    if by_length:
        stage, behind = own["adapter"]
        stronger = STRENGTHS[STRENGTHS.index(behind["gaussian"]["cosine"]) + NEXT[setting]]
        own = {"adapter": [stage, noise(stronger)]}
    if "max_steps" in training:
        training["max_steps"] = int(training["max_steps"] * lab.args.steps)
    if {"label_smoothing_factor"} <= set(training) & set(own.get("training", {})):
        training["label_smoothing_factor"] = 0.0
    adapter = own["adapter"]
    if "V" in str(adapter):
        table = str(cached_table(RowFile(rows), load_encoder("mini"), "image").path.resolve())
        adapter = [{"centring": {"fit": {"image": table}}}, adapter[1]]
    return own | {"adapter": adapter, "training": own.get("training", {}) | training}


def gathered(lab: Lab) -> Iterator[tuple[str, str, Run]]:
    """Setting (or "trials"), method and scores of every run that is finished; seeds outermost."""
    rows = lab.data("train") / "captions.jsonl"
    base = lab.recipe(rows)
    looks: dict[str, dict[str, Any]] = {split: {"data": lab.data(split) / "eval.jsonl"} for split in ("val", "test")}
    looks |= {f"{split}{ALIKE}": look | {"match": looks["val"]["data"]} for split, look in looks.items()}
    trials = {split: look for split, look in looks.items() if split.startswith("val")}
    searched = {f"test, {p:g}": looks["test"] | {"length_penalty": p} for p in PENALTIES}

    def run(group: str, title: str, method: str, trial: int, seed: int, looks: Mapping[str, Any]) -> Run | None:
        own = changes(lab, rows, method, trial, group if group in SETTINGS else "as it is")
        return lab.run(group, title, seed, base, own, looks)

    picked = {}
    for method in METHODS:
        tried = [run("trials", f"{method}, trial {trial}", method, trial, TUNING_SEED, trials) for trial in range(2)]
        if None not in tried:
            picked[method] = max(range(2), key=lambda trial: tried[trial][f"val{ALIKE}"]["cider"])
            yield from (("trials", f"{method}, trial {trial}", found) for trial, found in enumerate(tried))
    if "shared + noise" in picked:
        picked[BY_LENGTH] = picked["shared + noise"]
    for seed, setting, (method, trial) in product(lab.args.seeds, lab.args.settings, picked.items()):
        if method == BY_LENGTH and setting not in NEXT:
            continue  # the run of `shared + noise`
        wanted = looks | (searched if setting == "as it is" else {})
        own_seed = seed + APART * list(SETTINGS).index(setting)
        if found := run(setting, method, method, trial, own_seed, wanted):
            yield setting, method, found | {"trial": trial}
            if method == "shared + noise" and setting not in NEXT:
                yield setting, BY_LENGTH, found | {"trial": trial}


def judged(runs: Runs, alike: str = "") -> dict[str, Any]:
    """Every claim whose methods have the same settings and seeds, by score; `alike`: where all tell as much."""
    found: dict[str, Any] = {}
    for score, (claim, pair) in product(SCORES[:2], CLAIMS.items()):
        places = [
            {(setting, run["seed"] % APART): run for setting, table in runs.items() for run in table.get(method, [])}
            for method in pair
        ]
        shared = set(places[0]) & set(places[1])
        seeds = sorted({seed for _, seed in shared})
        settings = [one for one in SETTINGS if shared and all((one, seed) in shared for seed in seeds)]
        if not settings:
            continue

        def by(split: str) -> dict[str, dict[str, list[float]]]:
            return {
                method: {one: [place[one, seed][split + alike][score] for seed in seeds] for one in settings}  # noqa: B023
                for method, place in zip(pair, places, strict=True)  # noqa: B023
            }

        test, val = by("test"), by("val")
        about, back = (compared(test, val, *methods, comparisons=LOOKS * len(CLAIMS)) for methods in (pair, pair[::-1]))
        other = "open" if back["verdict"] == "open" else f"the other is {back['verdict']}"
        verdict = other if about["verdict"] == "open" else about["verdict"]
        found.setdefault(claim, {})[score] = about | {
            "of": list(pair),
            "settings": settings,
            "seeds": len(seeds),
            "verdict": verdict,
        }
    return found


def primary(runs: Runs, seeds: set[int] | None = None) -> dict[str, Any]:
    """Every claim by the one look that was named: CIDEr told alike over settings, corrected for the number of claims.

    Args:
        seeds: those that count; without it, all that both methods have in every setting.
    """
    found: dict[str, Any] = {}
    for claim, pair in CLAIMS.items():
        places: list[dict[str, dict[int, float]]] = [
            {
                setting: {run["seed"] % APART: run[f"test{ALIKE}"]["cider"] for run in table.get(method, [])}
                for setting, table in runs.items()
                if setting in SETTINGS
            }
            for method in pair
        ]
        settings = [one for one in SETTINGS if all(place.get(one) for place in places)]
        common = [set(place[one]) for place in places for one in settings]
        used = sorted(set.intersection(*common) & (seeds or set.union(*common))) if common else []
        if not used:
            continue
        apart = np.array([[places[0][one][seed] - places[1][one][seed] for seed in used] for one in settings])
        about = {"settings": settings, "seeds": used, "ahead_in": int((apart.mean(axis=1) > 0).sum())}
        found[claim] = difference(apart, len(CLAIMS)) | about
    return found


def lengths(runs: Runs, alike: str = "") -> dict[str, Any]:
    """How long each method's texts are against the references, over all runs: as near as its length penalties bring it."""
    found: dict[str, list[float]] = {}
    for setting in SETTINGS:
        for method, mine in runs.get(setting, {}).items():
            found.setdefault(method, []).extend(run[f"test{alike}"]["length_ratio"] for run in mine)
    return {
        method: {"mean": sum(each) / len(each), "low": min(each), "high": max(each)} for method, each in found.items()
    }


def markdown(record: Mapping[str, Any]) -> str:
    """Claim, effect, nested interval, settings, verdict, as trained and where all tell as much; then the curves."""
    lines = ["### The primary look: CIDEr told alike, over settings", ""]
    lines += [f"| claim | all seeds | | settings ahead | seed {CONFIRMS} alone | |", "|---" * 6 + "|"]
    for claim, one in record["primary"].items():
        cells = [claim, _range(one), one["verdict"], f"{one['ahead_in']} of {len(one['settings'])}"]
        alone = record["confirmed"].get(claim)
        lines.append(
            f"| {' | '.join(cells)} | {_range(alone) if alone else ''} | {alone['verdict'] if alone else ''} |"
        )
    lines.append("")
    for score, (title, claimed) in product(SCORES[:2], (("", "claims"), (ALIKE, "claims_told_alike"))):
        lines += [f"### {score}{title}", ""]
        lines += [
            "| claim | tuned | over settings, nested | worst setting | settings × seeds | verdict |",
            "|---|---|---|---|---|---|",
        ]
        for claim, scores in record[claimed].items():
            one = scores[score]
            shown = [_range(one[key]) for key in ("tuned", "over_settings")]
            shown.append(f"{one['worst']['difference']:.1f} ({one['worst']['setting']})")
            count = f"{len(one['settings'])} × {one['seeds']}"
            lines.append(f"| {claim} | {' | '.join(shown)} | {count} | {one['verdict']} |")
        lines.append("")
    lines += ["### Length of texts ÷ references, mean and range over runs", ""]
    lines += ["| method | as trained | told alike |", "|---|---|---|"]
    for method in record["lengths"]:
        ways = [record[key][method] for key in ("lengths", "lengths_told_alike")]
        cells = [f"{way['mean']:.2f} ({way['low']:.2f} to {way['high']:.2f})" for way in ways]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    lines += ["", "### Accuracy and recall of attributes over the length penalty", ""]
    lines += [
        "| method | " + " | ".join(f"{p:g}" for p in PENALTIES) + " | best F1 |",
        "|---" * (len(PENALTIES) + 2) + "|",
    ]
    for method, curve in record["curves"].items():
        points = [f"{point['accuracy']['mean']:.1f} / {point['recall']['mean']:.1f}" for point in curve.values()]
        lines.append(
            f"| {method} | {' | '.join(points)} | {max(point['f1']['mean'] for point in curve.values()):.1f} |"
        )
    return "\n".join(lines) + "\n"


def _range(said: Mapping[str, Any]) -> str:
    ends = said["ci"]
    return f"{said['difference']:.1f}" + (f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else "")


def curves(runs: Runs) -> dict[str, Any]:
    """For each method and length penalty: accuracy, recall and F1 over seeds."""
    found: dict[str, Any] = {}
    for method, mine in runs.get("as it is", {}).items():
        if method == BY_LENGTH:
            continue
        for penalty in map("{:g}".format, PENALTIES):
            points = [run[f"test, {penalty}"] for run in mine]
            pairs = [(point["attribute_accuracy"], point["attribute_recall"]) for point in points]
            values = {"accuracy": [a for a, _ in pairs], "recall": [r for _, r in pairs]}
            values["f1"] = [2 * a * r / (a + r) if a + r else 0.0 for a, r in pairs]
            found.setdefault(method, {})[penalty] = {key: interval(each) for key, each in values.items()}
    return found


def plot(record: Mapping[str, Any], path: Path) -> None:
    """Left, the claims' differences in CIDEr, told alike; right, accuracy against recall."""
    drawn = figure(12, 1.5 + 0.6 * len(CLAIMS))
    left, right = drawn.subplots(1, 2)
    told = record["claims_told_alike"]
    ways = {
        "each method tuned": {claim: scores["cider"]["tuned"] for claim, scores in told.items()},
        "over settings (the look that was named)": record["primary"],
        f"of these seed {CONFIRMS} alone": record["confirmed"],
    }
    for (label, found), colour, up in zip(ways.items(), ("#9aa8bb", "#1d2733", "#1f7a63"), (-0.2, 0, 0.2), strict=True):
        for row, said in enumerate(found[claim] for claim in told if claim in found):
            half = 0 if said["ci"] is None else (said["ci"][1] - said["ci"][0]) / 2
            first = None if row else label
            left.errorbar([said["difference"]], [row + up], xerr=[half], fmt="o", color=colour, capsize=3, label=first)
    left.axvline(0, color="#5d6b7e", linewidth=1)
    left.set_yticks(range(len(record["claims"])), [claim.replace("`", "") for claim in record["claims"]], fontsize=8)
    left.invert_yaxis()
    left.set_xlabel("difference in CIDEr, told alike; corrected 95 % intervals")
    left.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncol=3)
    for method, curve in record["curves"].items():
        points = list(curve.values())
        right.plot([p["recall"]["mean"] for p in points], [p["accuracy"]["mean"] for p in points], "o-", label=method)
    right.set_xlabel("attributes told, % (length penalties −2 … 4)")
    right.set_ylabel("of them true, %")
    right.legend(frameon=False, fontsize=8)
    save_png(drawn, path)


def main() -> None:
    made = parser(__doc__, __file__)
    made.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    lab, runs = Lab(made.parse_args(), scores=SCORES), Runs()
    for setting, method, run in gathered(lab):
        runs.setdefault(setting, {}).setdefault(method, []).append(run)
    claimed = {"claims": judged(runs), "claims_told_alike": judged(runs, ALIKE)}
    claimed |= {"lengths": lengths(runs), "lengths_told_alike": lengths(runs, ALIKE)}
    claimed |= {"primary": primary(runs), "confirmed": primary(runs, {CONFIRMS})}
    record = {"training": TRAINING, **claimed, "curves": curves(runs), "runs": runs}
    lab.finish(record, markdown, plot if record["claims"] else None)


if __name__ == "__main__":
    main()
