"""The field's text-only captioners in one run: every method, in its domain and across domains, with and without another memory.

    python experiments/methods/run.py                            # the mini world: its styles `plain` and `report` are the domains
    python experiments/methods/run.py --only close ifcap --seeds 0
    python experiments/methods/run.py --domain coco=DATA/coco --domain flickr30k=DATA/flickr30k --out coco.json   # recipes/
    python experiments/methods/run.py --record                    # only write down what is finished

A domain: a folder of `train.jsonl` (captions) and `test.jsonl` (images with references), as `close convert karpathy` makes them.
With domains of your own a method is `recipes/NAME.yaml`, with its paper's settings; tables that an adapter is fitted on (V, M)
are made from the training rows' images and texts.

On the mini world all methods share encoder, language model (a small T5 that starts at random), steps and batch, and each has two
trials on validation pictures of the first domain, with a seed that is not used again; the better by CIDEr is trained in both
domains with every seed, and each seed has another warm-up, which alone can move a score as much as a method does. All are judged
as trained, and told alike: each with the length penalty with which its captions of validation pictures are as long as the texts
that it learnt from. Writes results.json, .md and .png; a stopped run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import ALIKE, BY_SEED, SMOOTHED, TUNING_SEED, Lab, Run, Runs, difference, noise, parser, summary

from close.data.rows import RowFile
from close.demo.run import TRAINING
from close.encoders import load_encoder
from close.evaluation.transfer import recovered_share
from close.io.files import read_json
from close.io.plots import figure, save_png
from close.runs.recipe import Recipe
from close.study.arms import APART
from close.study.export import cell
from close.vectors.cache import cached_table

HERE = Path(__file__).parent
SCORES = ("cider", "attribute_accuracy", "attribute_recall")
STYLES = ("plain", "report")
EXCHANGED = ", its texts as memory"
"""Behind the name of a test where the memory is the tested domain's training texts."""


def vectors(**own: Any) -> dict[str, Any]:
    return {"into": "vectors", "k": 5, **own}


FUSION = {"kind": "fusion", "length": 10}
IFCAP = vectors(noise=0.67, into=["vectors", "words"], among=9, at_least=5)
MINI: dict[str, list[dict[str, Any]]] = {
    "none": [{"adapter": "none", **trial} for trial in SMOOTHED],
    "close": [{"adapter": [noise(cosine)]} for cosine in (0.41, 0.67)],
    "capdec": [{"adapter": [noise(cosine)], "prefix": {"kind": "transformer", "length": 10}} for cosine in (0.3, 0.54)],
    "c3": [{"adapter": [{"centring": {"fit": {"image": "V"}}}, noise(cosine)]} for cosine in (0.54, 0.67)],
    "decap": [{"adapter": [{"memory": {"fit": {"text": "M"}, "temperature": heat}}]} for heat in (0.01, 0.04)],
    "viecap": [
        {"adapter": [noise(cosine)], "retrieve": {"into": "words", "k": 9, "at_least": 5}} for cosine in (0.41, 0.67)
    ],
    "smallcap": [
        {"adapter": [noise(cosine)], "retrieve": {"into": "captions", "k": 3, "noise": 0.67}} for cosine in (0.41, 0.67)
    ],
    "knight": [
        {
            "adapter": [noise(cosine)],
            "retrieve": vectors(main=False, noisy=True),
            "prefix": {"kind": "mlp", "length": 1},
        }
        for cosine in (0.54, 0.84)
    ],
    "knight, searched with noise": [
        {
            "adapter": [noise(cosine)],
            "retrieve": vectors(main=False, noisy=True, noise=0.67),
            "prefix": {"kind": "mlp", "length": 1},
        }
        for cosine in (0.54, 0.84)
    ],
    "ifcap": [{"adapter": [noise(cosine)], "retrieve": IFCAP, "prefix": FUSION} for cosine in (0.41, 0.67)],
    "ifcap, a linear prefix": [{"adapter": [noise(cosine)], "retrieve": IFCAP} for cosine in (0.41, 0.67)],
    "shared": [{"adapter": ["shared", noise(cosine)]} for cosine in (0.54, 0.67)],
    "shared and neighbours": [
        {"adapter": ["shared", noise(cosine)], "retrieve": vectors(noise=0.67)} for cosine in (0.54, 0.67)
    ],
    "shared and ifcap": [
        {"adapter": ["shared", noise(cosine)], "retrieve": IFCAP, "prefix": FUSION} for cosine in (0.54, 0.67)
    ],
    "images": [{"adapter": "none", "train_on": "image", **trial} for trial in SMOOTHED],
}
"""Two trials of each method. What a paper calls its noise is a cosine here, since the mini world has other dimensions."""
COMBINED = ("shared and neighbours", "shared and ifcap")
"""Of these the better trial is "the combination"."""
CLAIMS = {
    "noise brings text across": ("close", "none"),
    "a search as hard in training as in use lifts neighbours alone": ("knight, searched with noise", "knight"),
    "IFCap's memory lifts noise": ("ifcap", "close"),
    "`shared` lifts noise": ("shared", "close"),
    "the combination is ahead of `shared`": ("the combination", "shared"),
    "the combination is ahead of training on images": ("the combination", "images"),
}
"""Named before anything was run; all else in the table is explored."""
REAL = ("close", "capdec", "c3", "decap", "viecap", "smallcap", "knight", "ifcap", "shared")


class Domains:
    """Rows by domain, and what a method is trained with on them."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.own = lab, dict(lab.args.domain)
        self.names = list(self.own or STYLES)

    def rows(self, domain: str, split: str) -> Path:
        if self.own:
            return self.own[domain] / f"{split}.jsonl"
        return self.lab.data(split, style=domain) / ("captions.jsonl" if split == "train" else "eval.jsonl")

    def seed(self, seed: int, domain: str) -> int:
        """Another in each domain, so that what a seed does to a run does not come back in all."""
        return seed + (0 if self.own else APART * self.names.index(domain))

    def run(
        self, group: str, title: str, domain: str, seed: int, changes: Mapping[str, Any], looks: Mapping[str, Any]
    ) -> Run | None:
        """One run, with the tables that its adapter is fitted on."""
        rows = self.rows(domain, "train")
        if self.own:
            base = Recipe.model_validate({"data": {"train": str(rows.resolve())}})
        else:
            own = BY_SEED[0 if group == "trials" else seed % APART % len(BY_SEED)]
            warm = min(own["warmup_steps"], self.lab.args.steps - 1)
            base = self.lab.recipe(rows, training=self.lab.training | {"warmup_steps": warm})
        fitted = dict(changes) | {"adapter": self._fitted(changes["adapter"], domain, changes.get("encoder", "mini"))}
        return self.lab.run(group, title, seed, base, fitted, looks)

    def _fitted(self, part: Any, domain: str, encoder: str) -> Any:
        """V and M become tables of the training rows' images and texts."""
        if isinstance(part, dict):
            return {key: self._fitted(value, domain, encoder) for key, value in part.items()}
        if isinstance(part, list):
            return [self._fitted(value, domain, encoder) for value in part]
        if part not in ("V", "M"):
            return part
        rows = RowFile(self.rows(domain, "train"))
        return str(cached_table(rows, load_encoder(encoder), "image" if part == "V" else "text").path.resolve())

    def looks(self, domain: str, retrieves: bool) -> dict[str, dict[str, Any]]:
        """The tests of a run that is trained on a domain: each domain, and others' texts as memory where it searches one.

        Its own domain as trained and told alike, the others told alike alone, where there are validation pictures to match on.
        """
        found: dict[str, dict[str, Any]] = {}
        for there in self.names:
            found[f"{there}, test"] = {"data": self.rows(there, "test")}
            if retrieves and there != domain:
                found[f"{there}, test{EXCHANGED}"] = found[f"{there}, test"] | {"memory": self.rows(there, "train")}
        if (match := self.rows(domain, "val")).is_file():
            alike = {f"{name}{ALIKE}": look | {"match": match} for name, look in found.items()}
            found = {f"{domain}, test": found[f"{domain}, test"]} | alike
        return found


def gathered(lab: Lab, domains: Domains) -> Runs:
    """Every run, by domain (or "trials") and method; seeds outermost."""
    found: Runs = {}
    picked: dict[str, dict[str, Any]] = {}
    for method in lab.args.only:
        if domains.own:
            picked[method] = yaml.safe_load((HERE / "recipes" / f"{method}.yaml").read_text(encoding="utf-8"))
            continue
        rows = domains.rows(STYLES[0], "val")
        val = {"val": {"data": rows, "match": rows}}
        trial = partial(domains.run, "trials", domain=STYLES[0], seed=TUNING_SEED, looks=val)
        tried = {
            title: trial(title=title, changes=changes)
            for title, changes in (
                (f"{method}, trial {number}", changes) for number, changes in enumerate(MINI[method])
            )
        }
        if None not in tried.values():
            ciders = [run["val"]["cider"] for run in tried.values() if run]
            picked[method] = MINI[method][ciders.index(max(ciders))]
            found.setdefault("trials", {}).update({title: [run] for title, run in tried.items() if run})
    for seed in lab.args.seeds:
        for domain in domains.names:
            for method, changes in picked.items():
                looks = domains.looks(domain, "retrieve" in changes)
                if run := domains.run(domain, method, domain, domains.seed(seed, domain), changes, looks):
                    found.setdefault(domain, {}).setdefault(method, []).append(run)
    return found


def table(runs: Runs) -> dict[str, Any]:
    """By method and test: mean, values and interval over seeds of each score, and the share recovered."""
    found: dict[str, Any] = {}
    for domain, methods in runs.items():
        for method, each in methods.items() if domain != "trials" else ():
            keys = [key for key in (*SCORES, "length_ratio") if key in each[0][f"{domain}, test"]]
            for test, scores in summary(each, keys).items():
                if test != "seeds":
                    found.setdefault(method, {})[f"{domain} → {test}"] = scores
    for tests in found.values():
        for name, scores in tests.items():
            ends = [found.get(end, {}).get(name.replace(EXCHANGED, "")) for end in ("none", "images")]
            if all(ends):
                scores["recovered"] = {
                    key: recovered_share(scores[key]["mean"], *(end[key]["mean"] for end in ends)) for key in SCORES[:2]
                }
    return found


def judged(runs: Runs) -> dict[str, Any]:
    """Every claim of `CLAIMS` whose runs are there: differences told alike, a pair of runs each domain and seed.

    The level of an interval is corrected for the number of claims, in CIDEr; accuracy beside it is explored.
    """
    found: dict[str, Any] = {}
    best = {title.partition(", trial")[0]: each[0]["val"]["cider"] for title, each in runs.get("trials", {}).items()}
    combined = max((one for one in COMBINED if one in best), key=lambda one: best[one], default=COMBINED[0])
    for claim, methods in CLAIMS.items():
        one, other = (combined if name == "the combination" else name for name in methods)
        places = [
            {
                (domain, run["seed"]): run[f"{domain}, test{ALIKE}"]
                for domain in STYLES
                for run in runs[domain].get(name, [])
            }
            for name in (one, other)
            if set(STYLES) <= set(runs)
        ]
        common = sorted(set.intersection(*map(set, places))) if places else []
        for key in SCORES[:2] if common else ():
            apart = np.array([[place[where][key] for place in places] for where in common])
            apart = apart[:, :1] - apart[:, 1:]
            about = difference(apart, len(CLAIMS)) | {"values": apart[:, 0].tolist()}
            found.setdefault(claim, {"of": [one, other], "at": [list(where) for where in common]})[key] = about
    return found


def markdown(found: dict[str, Any], claimed: dict[str, Any], published: dict[str, Any]) -> str:
    """The claims; then one table a test, methods by scores."""
    lines: list[str] = []
    if claimed:
        lines += ["### Claims, told alike, over both domains, seeds and warm-ups", ""]
        lines += ["| claim | CIDEr | | attribute accuracy, points | runs of each |", "|---|---|---|---|---|"]
    for claim, about in claimed.items():
        cells = [f"{one['difference']:+.1f}" + ends_of(one["ci"]) for one in (about[key] for key in SCORES[:2])]
        lines.append(f"| {claim} | {cells[0]} | {about['cider']['verdict']} | {cells[1]} | {len(about['at'])} |")
    lines.append("")
    for name in dict.fromkeys(test for tests in found.values() for test in tests):
        lines += [f"### {name.replace(', test', '')}", ""]
        lines += [
            "| method | CIDEr | recovered | attribute accuracy % | recovered | recall % | seeds |",
            "|---|---|---|---|---|---|---|",
        ]
        rows = [(method, tests[name]) for method, tests in found.items() if name in tests]
        for method, scores in sorted(rows, key=lambda row: -row[1]["cider"]["mean"]):
            share = scores.get("recovered", {})
            cells = [cell(scores["cider"]), shown(share.get("cider"))]
            cells += [cell(scores[SCORES[1]]) if SCORES[1] in scores else "", shown(share.get(SCORES[1]))]
            cells += [cell(scores[SCORES[2]]) if SCORES[2] in scores else "", str(len(scores["cider"]["values"]))]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["### Published CIDEr", "", f"{published['what']} Source: {published['source']}.", ""]
    places = list(dict.fromkeys(place for scores in published["scores"].values() for place in scores))
    lines += [f"| method | {' | '.join(places)} |", "|---" * (len(places) + 1) + "|"]
    for method, scores in published["scores"].items():
        lines.append(f"| {method} | {' | '.join(str(scores.get(place, '')) for place in places)} |")
    return "\n".join([*lines, ""])


def ends_of(ci: list[float] | None) -> str:
    return "" if ci is None else f" [{ci[0]:+.1f}, {ci[1]:+.1f}]"


def plot(record: Mapping[str, Any], path: Path) -> None:
    """CIDEr told alike, a panel a domain: in it, and trained on the other; dots are means, lines each seed."""
    methods = list(record["table"])
    drawn = figure(11, 1.6 + 0.34 * len(methods))
    for number, panel in enumerate(drawn.subplots(1, 2, sharey=True)):
        there = STYLES[number]
        ways = [(f"{there} → {there}, test{ALIKE}", "trained in the domain", "#1f7a63", -0.2)]
        away = f"{STYLES[1 - number]} → {there}, test"
        ways += [(f"{away}{ALIKE}", "trained on the other's texts", "#b3672a", 0.0)]
        ways += [(f"{away}{EXCHANGED}{ALIKE}", "the same, its texts as memory", "#5b53a3", 0.2)]
        for name, label, colour, up in ways:
            at = [
                (row, record["table"][method][name]["cider"])
                for row, method in enumerate(methods)
                if name in record["table"][method]
            ]
            panel.plot([score["mean"] for _, score in at], [row + up for row, _ in at], "o", color=colour, label=label)
            for row, score in at:
                panel.plot(score["values"], [row + up] * len(score["values"]), "|", color=colour, markersize=8)
        panel.set_title(f"tested on {there}", fontsize=10, loc="left")
        panel.set_yticks(range(len(methods)), methods, fontsize=8)
        panel.grid(axis="x", color="#e3e7ee", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.set_xlabel("CIDEr, told alike")
    panel.set_ylim(len(methods) - 0.5, -0.5)
    panel.legend(frameon=False, fontsize=8)
    save_png(drawn, path)


def shown(share: float | None) -> str:
    return "" if share is None else f"{share:.2f}"


def domain(given: str) -> tuple[str, Path]:
    name, found, folder = given.partition("=")
    if not found or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{given!r}: expected NAME=FOLDER, a folder of train.jsonl and test.jsonl")
    return name, Path(folder)


def main() -> None:
    made = parser(__doc__, __file__)
    made.add_argument("--domain", type=domain, action="append", default=[], metavar="NAME=FOLDER")
    made.add_argument("--only", nargs="+", choices=[*MINI], metavar="METHOD", help=", ".join(MINI))
    args = made.parse_args()
    args.only = args.only or (list(REAL) if args.domain else list(MINI))
    if args.domain and args.out == made.get_default("out"):
        made.error("what comes out of domains of your own is not the mini world's record: give --out")
    lab, published = Lab(args, scores=(*SCORES, "length_ratio")), read_json(HERE / "published.json")
    runs = gathered(lab, Domains(lab))
    record = {"training": TRAINING, "methods": list(REAL) if args.domain else MINI, "claims": judged(runs)}
    record |= {"table": table(runs), "runs": runs}
    drawn = None if args.domain or not set(STYLES) <= set(runs) else plot
    lab.finish(record, lambda made: markdown(made["table"], made["claims"], published), drawn)


if __name__ == "__main__":
    main()
