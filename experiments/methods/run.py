"""The field's text-only captioners in one run: every method, in its domain and across domains, with and without another memory.

    python experiments/methods/run.py                            # the mini world: its styles `plain` and `report` are the domains
    python experiments/methods/run.py --only close ifcap --seeds 0
    python experiments/methods/run.py --domain coco=DATA/coco --domain flickr30k=DATA/flickr30k    # recipes/, with real encoders
    python experiments/methods/run.py --record                    # only write down what is finished

A domain: a folder of `train.jsonl` (captions) and `test.jsonl` (images with references), as `close convert karpathy` makes them.
With domains of your own a method is `recipes/NAME.yaml`, with its paper's settings; tables that an adapter is fitted on (V, M)
are made from the training rows' images and texts.

On the mini world all methods share encoder, language model (a small T5 that starts at random), steps and batch, and each has two
trials on validation pictures of the first domain (seed 0); the better by CIDEr is trained in both domains with every seed.
Writes results.json and .md; a stopped run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab import Lab, Run, Runs, noise, parser, summary

from close.data.rows import RowFile
from close.demo.run import TRAINING
from close.encoders import load_encoder
from close.evaluation.transfer import recovered_share
from close.io.files import read_json
from close.runs.recipe import Recipe
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
MINI: dict[str, list[dict[str, Any]]] = {
    "none": [{"adapter": "none", "training": {"learning_rate": rate}} for rate in (2e-3, 1e-3)],
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
    "ifcap": [
        {
            "adapter": [noise(cosine)],
            "retrieve": vectors(noise=0.67, into=["vectors", "words"], among=9, at_least=5),
            "prefix": FUSION,
        }
        for cosine in (0.41, 0.67)
    ],
    "shared": [{"adapter": ["shared", noise(cosine)]} for cosine in (0.54, 0.67)],
    "shared and neighbours": [
        {"adapter": ["shared", noise(cosine)], "retrieve": vectors(noise=0.67)} for cosine in (0.54, 0.67)
    ],
    "images": [{"adapter": "none", "train_on": "image", "training": {"learning_rate": rate}} for rate in (2e-3, 1e-3)],
}
"""Two trials of each method. What a paper calls its noise is a cosine here, since the mini world has other dimensions."""
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

    def run(
        self, group: str, title: str, domain: str, seed: int, changes: Mapping[str, Any], looks: Mapping[str, Any]
    ) -> Run | None:
        """One run, with the tables that its adapter is fitted on."""
        rows = self.rows(domain, "train")
        base = Recipe.model_validate({"data": {"train": str(rows.resolve())}}) if self.own else self.lab.recipe(rows)
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
        """The tests of a run that is trained on a domain: each domain, and others' texts as memory where it searches one."""
        found: dict[str, dict[str, Any]] = {
            f"{there}, test": {"data": self.rows(there, "test")} for there in self.names
        }
        for there in self.names if retrieves else ():
            if there != domain:
                found[f"{there}, test{EXCHANGED}"] = found[f"{there}, test"] | {"memory": self.rows(there, "train")}
        return found


def gathered(lab: Lab, domains: Domains) -> Runs:
    """Every run, by domain (or "trials") and method; seeds outermost."""
    found: Runs = {}
    picked: dict[str, dict[str, Any]] = {}
    for method in lab.args.only:
        if domains.own:
            picked[method] = yaml.safe_load((HERE / "recipes" / f"{method}.yaml").read_text(encoding="utf-8"))
            continue
        val = {"val": {"data": domains.rows(STYLES[0], "val")}}
        tried = {
            f"{method}, trial {number}": domains.run("trials", f"{method}, trial {number}", STYLES[0], 0, changes, val)
            for number, changes in enumerate(MINI[method])
        }
        if None not in tried.values():
            ciders = [run["val"]["cider"] for run in tried.values() if run]
            picked[method] = MINI[method][ciders.index(max(ciders))]
            found.setdefault("trials", {}).update({title: [run] for title, run in tried.items() if run})
    for seed in lab.args.seeds:
        for domain in domains.names:
            for method, changes in picked.items():
                looks = domains.looks(domain, "retrieve" in changes)
                if run := domains.run(domain, method, domain, seed, changes, looks):
                    found.setdefault(domain, {}).setdefault(method, []).append(run)
    return found


def table(runs: Runs) -> dict[str, Any]:
    """By method and test: mean, values and interval over seeds of each score, and the share recovered."""
    found: dict[str, Any] = {}
    for domain, methods in runs.items():
        for method, each in methods.items() if domain != "trials" else ():
            keys = [key for key in SCORES if key in each[0][f"{domain}, test"]]
            for test, scores in summary(each, keys).items():
                if test != "seeds":
                    found.setdefault(method, {})[f"{domain} → {test}"] = scores
    for tests in found.values():
        for name, scores in tests.items():
            ends = [found.get(end, {}).get(name.removesuffix(EXCHANGED)) for end in ("none", "images")]
            if all(ends):
                scores["recovered"] = {
                    key: recovered_share(scores[key]["mean"], *(end[key]["mean"] for end in ends)) for key in SCORES[:2]
                }
    return found


def markdown(found: dict[str, Any], published: dict[str, Any]) -> str:
    """One table a test: methods by scores."""
    lines: list[str] = []
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
    lab, published = Lab(args, scores=SCORES), read_json(HERE / "published.json")
    runs = gathered(lab, Domains(lab))
    record = {"training": TRAINING, "methods": list(REAL) if args.domain else MINI, "table": table(runs), "runs": runs}
    lab.finish(record, lambda made: markdown(made["table"], published))


if __name__ == "__main__":
    main()
