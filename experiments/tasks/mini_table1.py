"""Table 1 of CLOSE (Gu et al., ICCV 2023) on the mini world: tasks × ways to train × seeds, and one model of all tasks.

    python experiments/tasks/mini_table1.py                            # all of it; a stopped run continues
    python experiments/tasks/mini_table1.py --only caption multiple    # in one process …
    python experiments/tasks/mini_table1.py --only vqa entailment      # … and at the same time in another
    python experiments/tasks/mini_table1.py --only mixed               # waits for runs that another process is at

Methods: no noise; noise that leaves a cosine of .41 (the paper's default); noise tuned; trained on images. The tuned noise is
chosen per task on *validation* pictures with the first seed, as the paper does, and recorded with all that was tried. Every
model gets the same number of steps, the mixed one the sum of its tasks' steps and the mean of their tuned cosines.
Entailment is scored on pictures by the label that the picture gives (`meta.picture_label`), and the image-trained model learns
from these; text-trained models learn the label given the premise's text, and that is what they are scored by when fed text.

After a change of the mini world start in another --work folder.
Writes mini_table1.json, .md and .png beside this file from all tasks that are finished.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from close.data.rows import RowFile
from close.demo.run import TEST_SCENES, TRAIN_SCENES, TRAINING
from close.encoders import load_encoder
from close.evaluation.transfer import recovered_share
from close.io.files import read_json, waiting, write_json, write_text
from close.io.plots import figure, save_png
from close.io.record import stamp
from close.mini import export
from close.mini.export import CAPTIONS_PER_SCENE
from close.runs.evaluate import evaluate
from close.runs.folder import RUN_FILE
from close.runs.recipe import Recipe
from close.study.export import cell
from close.study.results import interval
from close.training.train import train
from close.vectors.cache import cached_table

GRID = (0.29, 0.41, 0.55, 0.67, 0.85)
"""Cosines that tuning tries; .29, .41 and .67 are the paper's w of .12, .08 and .04 at its dimension."""
DEFAULT = 0.41
SHARE_OF_DEMO = 0.5
"""Steps of one run, as a share of those that `close demo` takes for each of its models."""


@dataclass(frozen=True)
class Column:
    """A column of the table: what differs in the recipe, which files, which measure, and the paper's own numbers."""

    title: str
    task: str
    rows: str
    test: str
    measure: str
    paper: tuple[float, float, float, float]
    changes: dict[str, Any]
    decode: str | None = None


COLUMNS = {
    "caption": Column("captioning, single", "caption", "captions", "eval", "cider", (16.4, 80.5, 95.4, 113.2), {}),
    "multiple": Column(
        "captioning, multiple",
        "caption",
        "captions",
        "eval",
        "cider",
        (68.7, 95.3, 98.4, 113.2),
        {"captions": "multiple"},
    ),
    "vqa": Column("VQA", "vqa", "vqa", "vqa", "accuracy", (60.2, 59.6, 61.9, 65.4), {}),
    "entailment": Column(
        "entailment", "entailment", "entailment", "entailment", "accuracy", (68.2, 75.9, 75.9, 77.7), {}, "score"
    ),
}
METHODS = {"none": "no noise", "default": f"cosine {DEFAULT}", "tuned": "tuned", "image": "trained on images"}
MIXED = ("caption", "vqa", "entailment")
MIXED_METHODS = {"none": "no noise", "noise": "noise", "image": "trained on images"}
ASKED = ("vqa", "entailment")
"""Tasks with a context. They are scored with the *wrong* pictures too: what the context alone gives away."""
ALSO = ("attribute_accuracy", "attribute_recall", "hallucination", "per_answer_type", "per_label")


class Lab:
    """The data, and every run that is asked for, made once."""

    def __init__(self, work: Path, scale: float) -> None:
        self.work = work
        self.steps = max(2, round(scale * SHARE_OF_DEMO * _demo_steps()))
        share = min(1.0, scale)
        self.scenes = {"train": max(20, round(share * TRAIN_SCENES))}
        self.scenes |= {split: max(10, round(share * TEST_SCENES)) for split in ("val", "test")}

    def file(self, split: str, name: str) -> Path:
        return self.work / "data" / f"{split}-{self.scenes[split]}" / f"{name}.jsonl"

    def prepare(self) -> None:
        """Export the world and embed all of it, in one process at a time."""
        encoder = load_encoder("mini")
        self.fingerprint = encoder.fingerprint
        with waiting(self.work / "data.lock"):
            for split, count in self.scenes.items():
                folder = self.file(split, "x").parent
                if not folder.exists():
                    export(folder, split, count, 0)
                if not self.file(split, "entailment-pictures").exists():
                    _relabel(self.file(split, "entailment"), self.file(split, "entailment-pictures"))
                for name in ("vqa", "entailment-pictures"):
                    if not self.file(split, f"{name}-wrong").exists():
                        _exchange(self.file(split, name))
                captions = "captions" if split == "train" else "eval"
                for name in (captions, "vqa", "entailment", "entailment-pictures"):
                    rows = RowFile(self.file(split, name))
                    for modality in ("text", "image"):
                        cached_table(rows, encoder, modality)

    def recipe(self, name: str, method: str, seed: int, cosine: float | None) -> Recipe:
        """The recipe of one cell; `cosine` is what its noise leaves."""
        training = {key: value for key, value in TRAINING.items() if key not in ("epochs", "max_steps")}
        values: dict[str, Any] = {"seed": seed, "adapter": [{"gaussian": {"cosine": cosine}}] if cosine else "none"}
        if name == "mixed":
            files = {part: self.file("train", self.rows(part, method)) for part in MIXED}
            sizes = {part: len(RowFile(file)) for part, file in files.items()}
            values["task"] = [
                {
                    "task": COLUMNS[part].task,
                    "train": file,
                    "weight": round(max(sizes.values()) / sizes[part], 3),
                }
                for part, file in files.items()
            ]
            values |= {"train_on": "image"} if method == "image" else {}
            return Recipe.model_validate(values | {"training": training | {"max_steps": len(MIXED) * self.steps}})
        column = COLUMNS[name]
        # a picture has no "other captions": one ceiling for both, as in the paper
        values |= {"train_on": "image"} if method == "image" else column.changes
        values |= {"task": column.task, "data": {"train": self.file("train", self.rows(name, method))}}
        return Recipe.model_validate(values | {"training": training | {"max_steps": self.steps}})

    def rows(self, name: str, method: str) -> str:
        """The file that a task is trained on."""
        return "entailment-pictures" if (name, method) == ("entailment", "image") else COLUMNS[name].rows

    def run(self, name: str, method: str, seed: int, cosine: float | None = None) -> Path:
        """The folder of the trained cell."""
        recipe = self.recipe(name, method, seed, cosine)
        deciding = self.fingerprint + json.dumps(recipe.dump(), sort_keys=True)
        digest = hashlib.sha256(deciding.encode()).hexdigest()[:10]
        kind = "caption" if method == "image" and name == "multiple" else name
        place = self.work / "runs" / f"{kind}-{cosine or method}-{seed}-{digest}"
        with waiting(Path(f"{place}.lock")):
            if not (place / RUN_FILE).is_file():
                begun = time.perf_counter()
                train(recipe, place, overwrite=True)
                tell(f"trained {place.name} in {time.perf_counter() - begun:.0f} s")
        return place

    def scores(self, run: Path, name: str, split: str, modality: str) -> dict[str, Any]:
        """Scores of a run on one task's file, made once."""
        column = COLUMNS[name]
        by_picture = name == "entailment" and modality != "text"
        file = "entailment-pictures" if by_picture else column.test
        data = self.file(split, f"{file}-wrong" if modality == "wrong" else file)
        folder = run / "evaluations" / f"{split}-{column.task}-{modality}"
        with waiting(Path(f"{run}.lock")):
            if not (folder / "scores.json").is_file():
                evaluate(
                    run,
                    data,
                    task=column.task,
                    modality="image" if modality == "wrong" else modality,
                    decode=column.decode,
                    tokenizer="python",
                    folder=folder,
                )
        return read_json(folder / "scores.json")["scores"]

    def tuned(self, name: str, seed: int) -> tuple[float, dict[str, float]]:
        """The cosine that is best on validation pictures, and the score of each."""
        tried = {
            cosine: self.scores(self.run(name, "noise", seed, cosine), name, "val", "image")[COLUMNS[name].measure]
            for cosine in GRID
        }
        return max(tried, key=lambda cosine: tried[cosine]), {str(cosine): score for cosine, score in tried.items()}

    def column(self, name: str, seeds: list[int]) -> dict[str, Any]:
        """All methods of one task."""
        cosine, tried = self.tuned(name, seeds[0])
        noise = {"none": None, "default": DEFAULT, "tuned": cosine, "image": None}
        methods = {}
        for method in METHODS:
            runs = [self.run(name, method, seed, noise[method]) for seed in seeds]
            methods[method] = self.cell(runs, name)
            tell(f"{name}, {METHODS[method]}: {methods[method]['image']['mean']:.1f}")
        means = {method: found["image"]["mean"] for method, found in methods.items()}
        for method, found in methods.items():
            found["recovered_share"] = recovered_share(means[method], means["none"], means["image"])
        return {
            "measure": COLUMNS[name].measure,
            "tuned_cosine": cosine,
            "tuning": {"split": "val", "seed": seeds[0], "scores": tried},
            "methods": methods,
            "papers_order_holds": means["none"] < means["tuned"] < means["image"],
        }

    def mixed(self, seeds: list[int]) -> dict[str, Any]:
        """One model of several tasks, told apart by their instructions."""
        chosen = {name: self.tuned(name, seeds[0])[0] for name in MIXED}
        cosine = round(sum(chosen.values()) / len(chosen), 3)
        methods = {}
        for method, own in (("noise", cosine), ("none", None), ("image", None)):
            runs = [self.run("mixed", method, seed, own) for seed in seeds]
            methods[MIXED_METHODS[method]] = {name: self.cell(runs, name) for name in MIXED}
        return {"cosine": cosine, "methods": methods}

    def cell(self, runs: list[Path], name: str) -> dict[str, Any]:
        """Mean over seeds with its interval, each seed's bootstrap interval over examples, and what else is told."""
        measure, found = COLUMNS[name].measure, {}
        for modality in ("image", "text", "wrong") if name in ASKED else ("image", "text"):
            scores = [self.scores(run, name, "test", modality) for run in runs]
            found[modality] = interval([score[measure] for score in scores])
            found[modality]["bootstrap"] = [score["ci"][measure] for score in scores]
            found[modality]["also"] = {key: [score[key] for score in scores] for key in ALSO if key in scores[0]}
        return found


def _demo_steps() -> float:
    examples = CAPTIONS_PER_SCENE * TRAIN_SCENES
    return float(TRAINING.get("max_steps") or TRAINING["epochs"] * examples / TRAINING["batch_size"])


def _relabel(rows: Path, out: Path) -> None:
    """The same rows with the label that the picture gives."""
    lines = []
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        lines.append(json.dumps(row | dict.fromkeys(("label", "target"), row["meta"]["picture_label"])) + "\n")
    write_text(out, "".join(lines))


def _exchange(rows: Path) -> None:
    """The same rows, each with the picture of the scene after next."""
    found = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    images = list(dict.fromkeys(row["image"] for row in found))
    other = dict(zip(images, images[2:] + images[:2], strict=True))
    lines = (json.dumps(row | {"image": other[row["image"]]}) + "\n" for row in found)
    write_text(rows.with_name(f"{rows.stem}-wrong.jsonl"), "".join(lines))


def tell(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def record(lab: Lab, out: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Put what is finished into one JSON, one table and one plot."""
    done = {path.stem: read_json(path) for path in sorted((lab.work / "columns").glob("*.json"))}
    summary = {
        "columns": {name: done[name] for name in COLUMNS if name in done},
        "mixed": done.get("mixed", {"methods": {}}),
        "notes": [
            "entailment on pictures is scored by meta.picture_label; text-trained models learn the premise's label",
            "interval: 95 % of the mean over seeds (Student's t); bootstrap: 95 % over examples, one per seed",
            "recovered share: (method − no noise) / (trained on images − no noise), of means over seeds",
        ],
        **about,
        **stamp(lab.work),
    }
    write_json(out.with_suffix(".json"), summary)
    write_text(out.with_suffix(".md"), table(summary))
    plot(summary, out.with_suffix(".png"))
    return summary


def table(summary: dict[str, Any]) -> str:
    """Pictures in, mean ± half the interval over seeds; recovered share; the paper's numbers."""
    columns = summary["columns"]
    titles = [f"{COLUMNS[name].title} ({column['measure']})" for name, column in columns.items()]
    lines = ["| trained on | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for method, title in METHODS.items():
        cells = []
        for column in columns.values():
            note = f" (cosine {column['tuned_cosine']})" if method == "tuned" else ""
            cells.append(cell(column["methods"][method]["image"]) + note)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    for method, parts in summary["mixed"]["methods"].items():
        cells = [cell(parts[name]["image"]) if name in parts else "" for name in columns]
        note = f" (cosine {summary['mixed']['cosine']})" if method == MIXED_METHODS["noise"] else ""
        lines.append(f"| all tasks in one model, {method}{note} | " + " | ".join(cells) + " |")
    for method in ("default", "tuned"):
        shares = [column["methods"][method]["recovered_share"] for column in columns.values()]
        cells = ["–" if share is None else f"{share:.2f}" for share in shares]
        lines.append(f"| recovered share, {METHODS[method]} | " + " | ".join(cells) + " |")
    cells = [cell(column["methods"]["tuned"]["text"]) for column in columns.values()]
    lines.append("| tuned, fed text | " + " | ".join(cells) + " |")
    for method in ("tuned", "image"):
        cells = [cell(column["methods"][method].get("wrong")) for column in columns.values()]
        lines.append(f"| {METHODS[method]}, the wrong picture | " + " | ".join(cells) + " |")
    for place, title in enumerate(METHODS.values()):
        cells = [str(COLUMNS[name].paper[place]) for name in columns]
        lines.append(f"| *paper, {title}* | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(summary: dict[str, Any], path: Path) -> None:
    columns = summary["columns"]
    drawn = figure(3.2 * len(columns) + 0.6, 3.6)
    colours = {"none": "#9aa8bb", "default": "#7fb8a4", "tuned": "#1f7a63", "image": "#c77f3a"}
    for axes, (name, column) in zip(drawn.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True):
        bars = {method: (column["methods"][method]["image"], colours[method]) for method in METHODS}
        for method, title in MIXED_METHODS.items():
            if name in summary["mixed"]["methods"].get(title, {}):
                own = summary["mixed"]["methods"][title][name]["image"]
                bars[f"{method}, 3 tasks"] = own, colours["tuned" if method == "noise" else method]
        for place, (method, (score, colour)) in enumerate(bars.items()):
            half = score["ci"][1] - score["mean"] if score["ci"] else 0
            hatch = "//" if "3 tasks" in method else None
            axes.bar(place, score["mean"], yerr=half, color=colour, capsize=4, hatch=hatch, edgecolor="white")
        axes.set_xticks(range(len(bars)), list(bars), rotation=40, ha="right", fontsize=8)
        axes.set_title(COLUMNS[name].title, fontsize=10)
        axes.set_ylabel({"cider": "CIDEr", "accuracy": "accuracy %"}[column["measure"]])
    save_png(drawn, path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*COLUMNS, "mixed"], default=[*COLUMNS, "mixed"])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument("--scale", type=float, default=1.0, help="of steps, and below 1 of scenes too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/mini-table1"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(""), help="without an ending")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    lab, seeds = Lab(args.work, args.scale), list(range(args.seeds))
    lab.prepare()
    about = {"seeds": seeds, "scale": args.scale, "scenes": lab.scenes, "steps": lab.steps, "training": TRAINING}
    about["encoder"] = lab.fingerprint
    for name in args.only:
        result = lab.mixed(seeds) if name == "mixed" else lab.column(name, seeds)
        write_json(args.work / "columns" / f"{name}.json", result)
        if name != "mixed" or any((args.work / "columns" / f"{column}.json").is_file() for column in COLUMNS):
            print(table(record(lab, args.out, about)))


if __name__ == "__main__":
    main()
