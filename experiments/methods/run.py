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
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from close.data.rows import RowFile
from close.demo.run import TEST_SCENES, TRAIN_SCENES, TRAINING
from close.encoders import load_encoder
from close.evaluation.transfer import recovered_share
from close.io.files import read_json, waiting, write_json, write_text
from close.io.record import stamp
from close.io.versions import versions
from close.mini import export
from close.runs.evaluate import evaluate
from close.runs.folder import RUN_FILE
from close.runs.recipe import Recipe
from close.study.arms import Arm
from close.study.export import cell
from close.study.results import interval
from close.study.sweep import run_folder
from close.training.train import train
from close.vectors.cache import cached_table

HERE = Path(__file__).parent
SCORES = ("cider", "attribute_accuracy", "attribute_recall")
EXCHANGED = ", its texts as memory"
"""Behind the name of a test where the memory is the tested domain's training texts."""


def noise(cosine: float) -> dict[str, Any]:
    return {"gaussian": {"cosine": cosine}}


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


class Lab:
    """Domains and runs in one folder; what is done is read."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.set_num_threads(args.threads)
        self.args, self.mini = args, not args.domain
        self.domains = dict(args.domain) if args.domain else self._styles()
        self.work = args.work / (versions()["mini_world"].partition(" ")[0] if self.mini else "own")

    def _styles(self) -> dict[str, Path]:
        """The mini world's two styles, as folders of a domain."""
        found, sizes = {}, {"train": self.args.scenes, "val": TEST_SCENES, "test": TEST_SCENES}
        with waiting(self.args.work / "data.lock"):
            for style in ("plain", "report"):
                found[style] = self.args.work / f"{style}-{self.args.scenes}"
                for split, count in sizes.items():
                    place = found[style] / split
                    if not place.exists():
                        export(place, split, count, style=style)
        return found

    def rows(self, domain: str, split: str) -> Path:
        folder = self.domains[domain]
        if self.mini:
            return folder / split / ("captions.jsonl" if split == "train" else "eval.jsonl")
        return folder / f"{split}.jsonl"

    def recipe(self, method: str, trial: int, domain: str, seed: int) -> tuple[Recipe, Path]:
        """The recipe of one run, with the tables that its adapter is fitted on, and its folder."""
        data = {"data": {"train": str(self.rows(domain, "train").resolve())}}
        if self.mini:
            training = {key: value for key, value in TRAINING.items() if key not in ("epochs", "max_steps")}
            base = {"training": training | {"max_steps": self.args.steps}}
            changes = MINI[method][trial]
        else:
            base, changes = {}, yaml.safe_load((HERE / "recipes" / f"{method}.yaml").read_text(encoding="utf-8"))
        values = Recipe.model_validate(base | data)
        return run_folder(values, Arm(method, self._fitted(changes, domain)), seed, self.work / domain)

    def _fitted(self, changes: dict[str, Any], domain: str) -> dict[str, Any]:
        """V and M in an adapter's `fit` become tables of the training rows' images and texts."""

        def table(modality: str) -> str:
            rows = RowFile(self.rows(domain, "train"))
            return str(cached_table(rows, load_encoder(changes.get("encoder", "mini")), modality).path.resolve())

        def fitted(part: Any) -> Any:
            if isinstance(part, dict):
                return {key: fitted(value) for key, value in part.items()}
            if isinstance(part, list):
                return [fitted(value) for value in part]
            return table("image") if part == "V" else table("text") if part == "M" else part

        return changes | {"adapter": fitted(changes["adapter"])}

    def scores(self, method: str, trial: int, domain: str, seed: int, tests: list[tuple[str, str, bool]]) -> Any:
        """Train once, and score on each test: (domain, split, whether with that domain's training texts as memory).

        Returns:
            Scores by "domain, split" and "… memory"; None where it is not trained and nothing is to be.
        """
        recipe, folder = self.recipe(method, trial, domain, seed)
        if self.args.record and not (folder / RUN_FILE).is_file():
            return None
        begun, found = time.perf_counter(), {}
        new = not (folder / RUN_FILE).is_file()
        train(recipe, folder, resume=True)
        for there, split, exchanged in tests:
            name = f"{there}, {split}{EXCHANGED if exchanged else ''}"
            kept = folder / "methods" / f"{name}.json"
            if not kept.is_file():
                memory = self.rows(there, "train") if exchanged else None
                out = folder / "evaluations" / name.replace(", ", "-").replace(" ", "-")
                scores = evaluate(folder, self.rows(there, split), tokenizer="python", memory=memory, folder=out)[
                    "scores"
                ]
                kept.parent.mkdir(exist_ok=True)
                write_json(kept, {key: scores[key] for key in SCORES if scores.get(key) is not None})
            found[name] = read_json(kept)
        if new:
            told = ", ".join(f"{name} {scores['cider']:.1f}" for name, scores in found.items())
            tell(f"{method} ({trial}), {domain}, seed {seed}: {told} in {time.perf_counter() - begun:.0f} s")
        return found

    def retrieves(self, method: str, trial: int) -> bool:
        first = next(iter(self.domains))
        return self.recipe(method, trial, first, 0)[0].retrieve is not None


def chosen(lab: Lab, method: str) -> tuple[int, list[Any]]:
    """The better trial on validation pictures of the first domain, and what each scored."""
    if not lab.mini:
        return 0, []
    first = next(iter(lab.domains))
    tried = [lab.scores(method, trial, first, 0, [(first, "val", False)]) for trial in range(len(MINI[method]))]
    if None in tried:
        return -1, tried
    ciders = [scores[f"{first}, val"]["cider"] for scores in tried]
    return ciders.index(max(ciders)), tried


def gathered(lab: Lab) -> Iterator[dict[str, Any]]:
    """Every run: method, domain, seed, scores by test; seeds outermost."""
    picked = {}
    for method in lab.args.only:
        trial, tried = chosen(lab, method)
        if trial >= 0:
            picked[method] = trial
        yield {"method": method, "trials": tried, "chosen": trial}
    for seed in lab.args.seeds:
        for domain in lab.domains:
            for method, trial in picked.items():
                tests = [(there, "test", False) for there in lab.domains]
                if lab.retrieves(method, trial):
                    tests += [(there, "test", True) for there in lab.domains if there != domain]
                found = lab.scores(method, trial, domain, seed, tests)
                if found is not None:
                    yield {"method": method, "trained_on": domain, "seed": seed, "scores": found}


def table(lab: Lab, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By method and test: mean, values and interval over seeds of each score, and the share recovered."""
    found: dict[str, Any] = {}
    for run in runs:
        for test, scores in run.get("scores", {}).items():
            place = found.setdefault(run["method"], {}).setdefault(f"{run['trained_on']} → {test}", {})
            for key, value in scores.items():
                place.setdefault(key, []).append(value)
    for tests in found.values():
        for name, scores in tests.items():
            tests[name] = {key: interval(values) for key, values in scores.items()}
    for tests in found.values():
        for name, scores in tests.items():
            ends = [found.get(end, {}).get(name.removesuffix(EXCHANGED)) for end in ("none", "images")]
            if all(ends):
                scores["recovered"] = {
                    key: recovered_share(scores[key]["mean"], *(end[key]["mean"] for end in ends)) for key in SCORES[:2]
                }
    return found


def markdown(lab: Lab, found: dict[str, Any], published: dict[str, Any]) -> str:
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


def tell(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def domain(given: str) -> tuple[str, Path]:
    name, found, folder = given.partition("=")
    if not found or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{given!r}: expected NAME=FOLDER, a folder of train.jsonl and test.jsonl")
    return name, Path(folder)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", type=domain, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--only", nargs="+", choices=[*MINI], metavar="METHOD", help=", ".join(MINI))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=938, help="of a run on the mini world; half the demo's")
    parser.add_argument("--scenes", type=int, default=TRAIN_SCENES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/methods"))
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--record", action="store_true", help="train nothing: write down what is finished")
    args = parser.parse_args()
    args.only = args.only or (list(REAL) if args.domain else list(MINI))
    return args


def main() -> None:
    args = options()
    lab, published = Lab(args), read_json(HERE / "published.json")
    runs = list(gathered(lab))
    found = table(lab, runs)
    settings = {key: getattr(args, key) for key in ("steps", "scenes", "seeds")} | {
        "methods": MINI if lab.mini else REAL
    }
    write_json(args.out, {"settings": settings, "table": found, "runs": runs, **stamp(lab.work)})
    text = markdown(lab, found, published)
    write_text(args.out.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
