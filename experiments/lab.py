"""What the experiments share: a command line, runs that are made once, and their record with its table and its picture.

A script asks `Lab.run` for one run after another: a recipe, and what to look at when it is trained. What lies in the work folder,
or in the record of the same settings and world, is not made again; so a stopped experiment goes on, in two processes too.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from close.data.rows import RowFile
from close.data.shards import open_rows
from close.demo.run import TEST_SCENES, TRAIN_SCENES, TRAINING
from close.encoders import load_encoder
from close.io.files import read_json, waiting, write_json, write_text
from close.io.plots import figure, save_png
from close.io.record import stamp
from close.io.versions import versions
from close.mini import export
from close.mini.export import CAPTIONS_PER_SCENE
from close.runs.evaluate import evaluate, kept_scores
from close.runs.folder import RUN_FILE
from close.runs.length import match_length
from close.runs.recipe import Recipe
from close.runs.sources import sum_of
from close.study.arms import Arm
from close.study.claims import nested_interval
from close.study.export import cell
from close.study.results import interval
from close.study.selection import selection_score
from close.study.sweep import deciding, run_folder
from close.training.train import train
from close.vectors.cache import cached_table

__all__ = [
    "ALIKE",
    "BY_SEED",
    "CROSSINGS",
    "SMOOTHED",
    "TUNING_SEED",
    "WARM_UPS",
    "Lab",
    "arms_table",
    "both_ways",
    "difference",
    "dots",
    "first_groups",
    "looked",
    "made_of",
    "matched",
    "noise",
    "parser",
    "shared_by",
    "summary",
    "tell",
    "write_record",
]

STEPS = 938
"""Of a run; half the demo's."""
Run = dict[str, Any]
"""Its seed, and for each look the scores by name."""
Runs = dict[str, dict[str, list[Run]]]
"""By group (a setting, a part, a domain) and title, a run a seed."""


def noise(cosine: float) -> dict[str, Any]:
    """The stage of an adapter that leaves such a cosine."""
    return {"gaussian": {"cosine": cosine}}


CROSSINGS: dict[str, dict[str, Any]] = {
    "none": {"adapter": "none"},
    "noise .41": {"adapter": [noise(0.41)]},
    "shared + noise .67": {"adapter": ["shared", noise(0.67)]},
    "images": {"adapter": "none", "train_on": "image"},
}
"""The noise is the demo's; `shared` wants less of it."""


WARM_UPS = {"warm-up 0": {"warmup_steps": 0}, "warm-up 50": {"warmup_steps": 50}}
"""Two settings of training, a harmless difference; steps before the learning rate is whole."""


BY_SEED = [{"warmup_steps": steps} for steps in (50, 0, 200)]
"""What training has of its own with seed 0, 1, 2: intervals are over seeds and a harmless setting at once."""
SMOOTHED: list[dict[str, Any]] = [{}, {"training": {"label_smoothing_factor": 0.1}}]
"""Two trials of a method that has no noise to tune."""
TUNING_SEED = 100
"""Of trials; not used again."""
ALIKE = ", told alike"
"""Behind the name of a look where every run's texts are as long as those of training, matched on validation pictures."""


def difference(apart: NDArray[np.float64], claims: int) -> dict[str, Any]:
    """The mean difference of two methods, its interval corrected for so many claims, and what may be said of it.

    Args:
        apart: (settings, seeds).
    """
    ci = nested_interval(apart, 1 - 0.05 / claims)
    verdict = "open" if ci is None or ci[0] <= 0 <= ci[1] else "holds" if ci[0] > 0 else "the other way round"
    return {"difference": float(apart.mean()), "ci": ci, "verdict": verdict}


def parser(doc: str | None, file: str, settings: Iterable[str] = ()) -> argparse.ArgumentParser:
    """What all of these scripts take; a script adds its own.

    Args:
        settings: names of those that it trains in, of which `--only` chooses.
    """
    place = Path(file).resolve().parent
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--steps", type=int, default=STEPS, help="of a run; half the demo's")
    made.add_argument("--scenes", type=int, default=TRAIN_SCENES)
    made.add_argument("--test-scenes", type=int, default=TEST_SCENES)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--work", type=Path, default=Path("runs") / place.relative_to(Path(__file__).resolve().parent))
    made.add_argument("--out", type=Path, default=place / "results.json")
    made.add_argument("--record", action="store_true", help="train nothing: write down what is finished")
    if names := list(settings):
        made.add_argument("--only", nargs="+", choices=names, default=names)
    return made


def both_ways(rows: Path, **looking: Any) -> dict[str, dict[str, Any]]:
    """Looks at rows: their images in, and their texts; `looking` is what else `evaluate` takes."""
    return {look: {"data": rows, "modality": look, **looking} for look in ("image", "text")}


def first_groups(rows: Path, groups: int) -> Path:
    """A file beside these rows with the first groups of them, made where it is not there."""
    file = rows.with_name(f"first-{groups}.jsonl")
    if not file.is_file():
        lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(file, "".join(lines[: groups * CAPTIONS_PER_SCENE]))
    return file


def shared_by(rows: Path) -> dict[str, Any]:
    """The stage `shared`, fitted on the groups of a file of rows."""
    table = cached_table(RowFile(rows), load_encoder("mini"), "text").path
    return {"shared": {"fit": {"text": str(table.resolve()), "groups": str(rows.resolve())}}}


class Lab:
    """Data and runs in one folder.

    Args:
        args: of `parser`. scores: what is kept of an evaluation. training: of every run, over the demo's.
        world: whose version decides. more: names of further options that decide what comes out.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        *,
        scores: tuple[str, ...] = ("cider", "attribute_accuracy"),
        training: Mapping[str, Any] | None = None,
        world: str = "mini_world",
        more: Iterable[str] = (),
    ) -> None:
        torch.set_num_threads(args.threads)
        self.args, self.keys = args, scores
        self.settings = {key: getattr(args, key) for key in ("steps", "scenes", "test_scenes", *more)}
        self.settings |= {world: versions()[world]} | ({"training": dict(training)} if training else {})
        recorded = read_json(args.out) if args.out.is_file() else {}
        self.kept = recorded if recorded.get("settings") == self.settings else None
        self.work = args.work / f"world-{versions()[world].partition(' ')[0]}"
        self.place = self.work / f"{args.scenes}-{args.steps}"
        common = {key: value for key, value in TRAINING.items() if key not in ("epochs", "max_steps")}
        self.training = common | {"max_steps": args.steps} | dict(training or {})

    def data(
        self, split: str, scenes: int | None = None, *, make: Callable[[Path, str, int], Any] | None = None, **own: Any
    ) -> Path:
        """The folder of a split, made where it is not there: by `make(folder, split, scenes)`, or of the mini world.

        Args:
            scenes: how many; those of the options without it. own: what `close.mini.export` takes (`style`, `world`).
        """
        count = scenes or (self.args.scenes if split == "train" else self.args.test_scenes)
        folder = self.work / "data" / "-".join([split, str(count), *map(str, own.values())])
        with waiting(self.args.work / "data.lock"):
            if not folder.exists():
                (make or (lambda *where: export(*where, **own)))(folder, split, count)
        return folder

    def recipe(self, rows: Path, **values: Any) -> Recipe:
        """What runs share: rows to train on, and the training."""
        return Recipe.model_validate({"data": {"train": str(rows.resolve())}, "training": self.training} | values)

    def run(
        self,
        group: str,
        title: str,
        seed: int,
        base: Recipe,
        changes: Mapping[str, Any],
        looks: Mapping[str, Mapping[str, Any]],
    ) -> Run | None:
        """One run's scores; None where it is not finished, and nothing is to be trained.

        Args:
            changes: of the base recipe. looks: what `evaluate` takes beside the run, by name; with `match`, rows with images on
                which texts are first made as long as those of training (`close.runs.length`); with `select`, what
                `selection_score` takes, and rows whose texts stand in for images.
        """
        recipe, folder = run_folder(base, Arm(title, dict(changes)), seed, self.place / group)
        about = made_of(recipe, looks)
        for run in (self.kept or {}).get("runs", {}).get(group, {}).get(title, []):
            # records of before do not say what they were made of
            if run["seed"] == seed and set(looks) <= set(run) and run.get("made_of", about) == about:
                return dict(run)
        if self.args.record and not (folder / RUN_FILE).is_file():
            return None
        begun, found = time.perf_counter(), {}
        with waiting(Path(f"{folder}.lock")):
            new = not (folder / RUN_FILE).is_file()
            train(recipe, folder, resume=True)
            for name, look in looks.items():
                if (scores := looked(folder, name, look, record=self.args.record)) is None:
                    return None
                found[name] = {key: scores[key] for key in self.keys if scores.get(key) is not None}
        if new:
            told = ", ".join(f"{name} {scores[self.keys[0]]:.1f}" for name, scores in found.items())
            tell(f"{group}, {title}, seed {seed}: {told} in {time.perf_counter() - begun:.0f} s")
        return {"seed": seed, "made_of": about, **found}

    def three_ways(self, rows: Path) -> dict[str, dict[str, Any]]:
        """Looks at rows: both ways, and "alike", with texts as long as those of training, matched on validation pictures."""
        return both_ways(rows) | {"alike": {"data": rows, "match": self.data("val") / "images"}}

    def gathered(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        arms: Mapping[str, Mapping[str, Any]] | Callable[[str], Mapping[str, Mapping[str, Any]]],
        base: Recipe,
        looks: Mapping[str, Mapping[str, Any]],
        by_seed: Sequence[Mapping[str, Any]] = ({},),
    ) -> Runs:
        """Every arm in every setting that is finished, when those of `--only` are; seeds outermost.

        Args:
            settings: by name, what training has of its own; no more steps than the options say, and fewer of warm-up.
            arms: by title, changes of the base recipe; or what gives those of a setting by its name. looks: see `run`.
            by_seed: what training has of its own with seed 0, 1, …, in turn.
        """

        def once(names: Iterable[str]) -> Runs:
            found: Runs = {}
            for seed, setting in product(self.args.seeds, names):
                training = {**settings[setting], **by_seed[seed % len(by_seed)]}
                for key, most in (("max_steps", self.args.steps), ("warmup_steps", self.args.steps - 1)):
                    training |= {key: min(training[key], most)} if key in training else {}
                for title, changes in (arms(setting) if callable(arms) else arms).items():
                    if run := self.run(setting, title, seed, base, {**changes, "training": training}, looks):
                        found.setdefault(setting, {}).setdefault(title, []).append(run)
            return found

        if not self.args.record:
            once(self.args.only)
        self.args.record = True
        return once(settings)

    def finish(
        self,
        record: dict[str, Any],
        markdown: Callable[[dict[str, Any]], str],
        plot: Callable[[dict[str, Any], Path], None] | None = None,
    ) -> None:
        """Write the record of all that is finished, with its settings and its stamp.

        Raises:
            SystemExit: no run is.
        """
        if not record["runs"]:
            raise SystemExit("no run is finished here yet")
        whole = {"settings": self.settings} | record | stamp(self.place, self.kept)
        write_record(self.args.out, whole, markdown, plot)


def made_of(recipe: Recipe, looks: Mapping[str, Mapping[str, Any]]) -> str:
    """A hash of what decides a run's scores, wherever it lies: the recipe, what is learnt from, and what is looked at."""
    said = json.dumps([deciding(recipe), looks], sort_keys=True, default=lambda place: str(Path(place).resolve()))
    return sha256(re.sub(r'"(/[^"]*)"', lambda found: _content(Path(found[1])), said).encode()).hexdigest()[:12]


def _content(place: Path) -> str:
    """What lies there: of a table whose, since its sum is of its pictures' places too; of a folder its name."""
    if (place / "table.json").is_file():
        table = read_json(place / "table.json")
        return " ".join(f"{table[key]}" for key in ("fingerprint", "modality", "rows"))
    return sum_of(place) if place.is_file() or (place / "adapter.json").is_file() else place.name


def looked(folder: Path, name: str, look: Mapping[str, Any], *, record: bool) -> dict[str, Any] | None:
    """All scores of one look at a run, made once; None where they are not there, and nothing is to be made."""
    out = folder / "evaluations" / name
    kept = kept_scores(out / "scores.json")
    same = kept.get("data_sha256") == open_rows(look.get("select") or look["data"]).sha256
    scores = kept["scores"] if same else None
    if scores is None and not record:
        settings = dict(look)
        if photos := settings.pop("match", None):
            settings["length_penalty"] = matched(folder, photos)["length_penalty"]
        if rows := settings.pop("select", None):
            found = selection_score(folder, rows, **settings)
            write_json(out / "scores.json", found)
        else:
            found = evaluate(folder, folder=out, tokenizer="python", **settings)
        scores = found["scores"]
    return scores


def matched(folder: Path, photos: Path) -> dict[str, Any]:
    """What `match_length` finds of a run, once for the same photos: as many files in a folder, or the same rows."""
    file = folder / "matched.json"
    photos_are = f"{sum(1 for _ in photos.iterdir())} files" if photos.is_dir() else open_rows(photos).sha256
    found = read_json(file) if file.is_file() else {}
    if not found or found.get("photos", photos_are) != photos_are:  # records of before do not say
        found = match_length(folder, photos, save=False) | {"photos": photos_are}
        write_json(file, found)
    return dict(found)


def write_record(
    out: Path,
    record: dict[str, Any],
    markdown: Callable[[dict[str, Any]], str],
    plot: Callable[[dict[str, Any], Path], None] | None = None,
) -> None:
    """Write a record, its table and its picture, and print the table."""
    write_json(out, record)
    write_text(out.with_suffix(".md"), markdown(record))
    if plot:
        plot(record, out.with_suffix(".png"))
    print(markdown(record))


def summary(runs: list[Run], keys: Iterable[str]) -> dict[str, Any]:
    """Means and intervals over the seeds of one arm, for each look."""
    looks = [name for name in runs[0] if isinstance(runs[0][name], dict)]
    both = {look: {key: interval([run[look][key] for run in runs]) for key in keys} for look in looks}
    return {"seeds": [run["seed"] for run in runs], **both}


def arms_table(arms: Mapping[str, Mapping[str, Any]], columns: Mapping[str, Callable[[Any], Any]]) -> list[str]:
    """Lines of markdown: an arm a row. Of a column the title, and which interval of an arm's summary it shows."""
    lines = [f"| | {' | '.join(columns)} | seeds |", "|---" * (len(columns) + 2) + "|"]
    for title, arm in arms.items():
        lines.append(
            f"| {title} | {' | '.join(cell(shown(arm)) for shown in columns.values())} | {len(arm['seeds'])} |"
        )
    return [*lines, ""]


def dots(tables: Mapping[str, Mapping[str, Any]], key: str, path: Path, items: str = "pictures") -> None:
    """One score of every arm, a panel a table: each seed's value, and their mean; of the looks "image", "alike" and "text"."""
    heights = [len(table) for table in tables.values()]
    drawn = figure(8, 0.9 * len(heights) + 0.3 * sum(heights))
    panels = drawn.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for panel, (heading, table) in zip(panels, tables.items(), strict=True):
        for look, name, colour, up in (
            ("text", "text in", "#9aa8bb", 0.2),
            ("alike", f"{items} in, told alike", "#b3672a", 0),
            ("image", f"{items} in", "#1f7a63", -0.2),
        ):
            if not all(look in arm for arm in table.values()):
                continue
            for row, arm in enumerate(table.values()):
                score = arm[look][key]
                panel.plot([score["mean"]], [row + up], "o", color=colour, label=None if row else name)
                panel.plot(score["values"], [row + up] * len(score["values"]), "|", color=colour, markersize=9)
        panel.set_yticks(range(len(table)), list(table), fontsize=8)
        panel.set_ylim(len(table) - 0.5, -0.5)
        panel.set_title(heading, fontsize=9, loc="left")
        panel.grid(axis="x", color="#e3e7ee", linewidth=0.8)
        panel.set_axisbelow(True)
    panels[-1].set_xlabel(f"{key}: dots are means over seeds, lines each seed")
    panels[0].legend(frameon=False, fontsize=8)
    save_png(drawn, path)


def tell(line: str) -> None:
    """Say how far it is."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)
