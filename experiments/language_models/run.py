"""Decoder-only language models beside T5, what is trained of them, and what stands before them, on the mini world.

    python experiments/language_models/run.py                        # all of it; a stopped one goes on
    python experiments/language_models/run.py --only random          # one part …
    python experiments/language_models/run.py --only pretrained      # … and another in a second process
    python experiments/language_models/run.py --record               # train nothing: write down what is finished

`random`: models of one size that start at random, each crossing of the gap. `pretrained`: models that have read the mini
language (models.py), trained whole, by LoRA, and not at all, behind each kind of prefix, on text with noise. `images`: the same
trained on images, which is ClipCap's setting. Seeds are outermost, so that a stopped experiment has all arms with some of them.
Writes results.json, .md and .png beside this file. What a record of the same settings and world has is kept, so that
a stopped experiment goes on elsewhere too.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from models import KINDS, made

from close.demo.run import TEST_SCENES, TRAIN_SCENES, TRAINING
from close.io.files import read_json, waiting, write_json, write_text
from close.io.plots import figure, save_png
from close.io.record import stamp
from close.io.versions import versions
from close.mini import export
from close.runs.evaluate import evaluate
from close.runs.recipe import Recipe
from close.study.export import cell
from close.study.results import interval
from close.training.train import train

SCORES = ("cider", "attribute_accuracy")
CROSSINGS: dict[str, dict[str, Any]] = {
    "none": {"adapter": "none"},
    "noise .41": {"adapter": [{"gaussian": {"cosine": 0.41}}]},
    "shared + noise .67": {"adapter": ["shared", {"gaussian": {"cosine": 0.67}}]},
    "images": {"adapter": "none", "train_on": "image"},
}
"""The noise is the demo's; `shared` wants less of it."""
PREFIXES: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "length": 10},
    "mlp": {"kind": "mlp", "length": 10},
    "transformer": {"kind": "transformer", "length": 10},
}
"""Of one length, ClipCap's; the Transformer has its eight layers and eight heads."""
TUNES: dict[str, dict[str, Any]] = {"full": {}, "lora": {"lora": {"r": 16}}, "none": {"tune": "none"}}
PARTS = {
    "random": "From a random start, linear prefix of 4 tokens",
    "pretrained": "After reading the mini language: text with noise .41",
    "images": "After reading the mini language: trained on images (ClipCap's setting)",
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
            for name, prefix in PREFIXES.items():
                yield f"{kind}, {tune}, {name}", kind, {**crossing, **trained, "prefix": prefix}


class Bench:
    """Data, language models and runs in one folder; a run that an earlier record of the same settings has is not made again."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.set_num_threads(args.threads)
        self.args = args
        self.settings = {key: getattr(args, key) for key in ("steps", "scenes", "test_scenes", "read", "read_steps")}
        self.settings["mini_world"] = versions()["mini_world"]
        recorded = read_json(args.out) if args.out.is_file() else {}
        self.recorded = recorded if recorded.get("settings") == self.settings else {}
        world = versions()["mini_world"].partition(" ")[0]
        self.work = args.work / f"world-{world}"
        self.place = self.work / f"{args.scenes}-{args.steps}-{args.read}-{args.read_steps}"
        with waiting(args.work / "data.lock"):
            for split, count in (("train", args.scenes), ("test", args.test_scenes)):
                if not self.data(split).exists():
                    export(self.data(split), split, count)

    def data(self, split: str) -> Path:
        return self.work / "data" / f"{split}-{self.args.scenes if split == 'train' else self.args.test_scenes}"

    def model(self, part: str, kind: str, seed: int) -> Path:
        """Random weights are the seed's own; what has read is one model for all seeds, as GPT-2 is one."""
        if part == "random":
            return made(kind, self.place / "models" / f"{kind}-{seed}", seed=seed, steps=0, read=0)
        read, steps = self.args.read, self.args.read_steps
        return made(kind, self.place / "models" / f"{kind}-read", seed=0, steps=steps, read=read)

    def recipe(self, part: str, kind: str, changes: Mapping[str, Any], seed: int) -> Recipe:
        training = {key: value for key, value in TRAINING.items() if key not in ("epochs", "max_steps")}
        values = {
            "data": {"train": str((self.data("train") / "captions.jsonl").resolve())},
            "language_model": str(self.model(part, kind, seed).resolve()),
            "training": training | {"max_steps": self.args.steps},
            "seed": seed,
        }
        return Recipe.model_validate(values | changes)

    def scores(self, part: str, arm: tuple[str, str, dict[str, Any]], seed: int) -> dict[str, Any] | None:
        """One run's scores; None where it is not finished, and nothing is to be trained."""
        title, kind, changes = arm
        folder = self.place / part / f"{re.sub(r'[^A-Za-z0-9.]+', '-', title)}-{seed}"
        done = folder / "scores.json"
        for run in self.recorded.get("runs", {}).get(part, {}).get(title, []):
            if run["seed"] == seed:
                return dict(run)
        if not done.is_file() and self.args.record:
            return None
        if not done.is_file():
            with waiting(Path(f"{folder}.lock")):
                if not done.is_file():
                    begun = time.perf_counter()
                    train(self.recipe(part, kind, changes, seed), folder, resume=True)
                    found = {"seed": seed, "minutes": (time.perf_counter() - begun) / 60, **self._evaluated(folder)}
                    write_json(done, found)
                    tell(f"{title}, seed {seed}: CIDEr {found['image']['cider']:.1f} in {found['minutes']:.1f} min")
        return dict(read_json(done))

    def _evaluated(self, folder: Path) -> dict[str, Any]:
        rows = self.data("test") / "eval.jsonl"
        both = {m: evaluate(folder, rows, modality=m, tokenizer="python")["scores"] for m in ("image", "text")}
        return {modality: {key: scores[key] for key in SCORES} for modality, scores in both.items()}


def finished(bench: Bench) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The scores of every finished run, by part and arm."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for part in PARTS:
        for arm in arms(part):
            if runs := [scores for seed in bench.args.seeds if (scores := bench.scores(part, arm, seed))]:
                found.setdefault(part, {})[arm[0]] = runs
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means and intervals of one arm."""
    both = {m: {key: interval([run[m][key] for run in runs]) for key in SCORES} for m in ("image", "text")}
    return {"seeds": [run["seed"] for run in runs], **both}


def markdown(record: dict[str, Any]) -> str:
    """A table a part."""
    lines = []
    for part, table in record["parts"].items():
        lines += [f"### {PARTS[part]}", ""]
        lines += ["| | CIDEr, pictures in | attribute accuracy % | CIDEr, text in | seeds |", "|---|---|---|---|---|"]
        for title, arm in table.items():
            cells = [cell(arm["image"]["cider"]), cell(arm["image"]["attribute_accuracy"]), cell(arm["text"]["cider"])]
            lines.append(f"| {title} | {' | '.join(cells)} | {len(arm['seeds'])} |")
        lines.append("")
    return "\n".join(lines)


def plot(record: dict[str, Any], path: Path) -> None:
    """CIDEr of every arm: each seed's value, and the mean."""
    heights = [len(table) for table in record["parts"].values()]
    drawn = figure(8, 0.9 * len(heights) + 0.28 * sum(heights))
    panels = drawn.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for panel, (part, table) in zip(panels, record["parts"].items(), strict=True):
        for modality, colour, up in (("text", "#9aa8bb", 0.14), ("image", "#1f7a63", -0.14)):
            kind = "pictures in" if modality == "image" else "text in"
            for row, arm in enumerate(table.values()):
                score = arm[modality]["cider"]
                label = kind if row == 0 else None
                panel.plot([score["mean"]], [row + up], "o", color=colour, label=label)
                panel.plot(score["values"], [row + up] * len(score["values"]), "|", color=colour, markersize=9)
        panel.set_yticks(range(len(table)), list(table), fontsize=8)
        panel.set_ylim(len(table) - 0.5, -0.5)
        panel.set_title(PARTS[part], fontsize=9, loc="left")
        panel.grid(axis="x", color="#e3e7ee", linewidth=0.8)
        panel.set_axisbelow(True)
    panels[-1].set_xlabel("CIDEr: dots are means over seeds, lines each seed")
    panels[0].legend(frameon=False, fontsize=8)
    save_png(drawn, path)


def tell(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=938, help="of a run; half the demo's")
    parser.add_argument("--scenes", type=int, default=TRAIN_SCENES)
    parser.add_argument("--test-scenes", type=int, default=TEST_SCENES)
    parser.add_argument("--read", type=int, default=20_000, help="scenes whose text is read before")
    parser.add_argument("--read-steps", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/language_models"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    parser.add_argument("--record", action="store_true", help="train nothing: write down what is finished")
    return parser.parse_args()


def main() -> None:
    args = options()
    bench = Bench(args)
    if not args.record:
        for seed in args.seeds:
            for part in args.only:
                for arm in arms(part):
                    if arm[1] in args.kinds:
                        bench.scores(part, arm, seed)
    args.record = True
    runs = finished(bench)
    if not runs:
        raise SystemExit("no run is finished here yet")
    models = {path.parent.name: read_json(path) for path in sorted((bench.place / "models").glob("*/about.json"))}
    record = {
        "settings": bench.settings,
        "training": TRAINING,
        "models": bench.recorded.get("models", {}) | models,
        "parts": {part: {title: summary(each) for title, each in table.items()} for part, table in runs.items()},
        "runs": runs,
        **stamp(bench.place, bench.recorded or None),
    }
    write_json(args.out, record)
    write_text(args.out.with_suffix(".md"), markdown(record))
    plot(record, args.out.with_suffix(".png"))
    print(markdown(record))


if __name__ == "__main__":
    main()
