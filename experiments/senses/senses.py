"""What the experiments share: data of a mini world, runs that go on, scores with intervals over seeds."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from close.demo.run import TEST_SCENES, TRAIN_SCENES, TRAINING
from close.io.files import read_json, waiting, write_json, write_text
from close.io.plots import figure, save_png
from close.io.record import stamp
from close.io.versions import versions
from close.runs.evaluate import evaluate
from close.runs.recipe import Recipe
from close.study.export import cell
from close.study.results import interval
from close.training.train import train

__all__ = ["SETTINGS", "Bench", "main", "options"]

CROSSINGS: dict[str, dict[str, Any]] = {
    "none": {"adapter": "none"},
    "noise .41": {"adapter": [{"gaussian": {"cosine": 0.41}}]},
    "shared + noise .67": {"adapter": ["shared", {"gaussian": {"cosine": 0.67}}]},
    "images": {"adapter": "none", "train_on": "image"},
}
"""The noise is the demo's; `shared` wants less of it."""
SETTINGS = {"warm-up 0": 0, "warm-up 50": 50}
"""Steps before the learning rate is whole."""


class Bench:
    """Data and runs in one folder; what a record of the same settings and world has is not made again.

    Args:
        make: writes the data of one split (folder, split, scenes). train, test: names of its files of rows.
        base: what recipes share. scores: what is kept of an evaluation. world: whose version decides.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        make: Callable[[Path, str, int], None],
        *,
        rows: tuple[str, str],
        base: Mapping[str, Any],
        scores: tuple[str, ...],
        evaluation: Mapping[str, Any],
        world: str = "mini_world",
    ) -> None:
        torch.set_num_threads(args.threads)
        self.args, self.rows, self.base, self.keys, self.evaluation = args, rows, base, scores, evaluation
        self.settings = {key: getattr(args, key) for key in ("steps", "scenes", "test_scenes")}
        self.settings[world] = versions()[world]
        self.items = "sounds" if world == "mini_sound_world" else "pictures"
        recorded = read_json(args.out) if args.out.is_file() else {}
        self.kept = recorded if recorded.get("settings") == self.settings else None
        self.recorded = (self.kept or {}).get("runs", {})
        self.place = args.work / f"world-{versions()[world].partition(' ')[0]}" / f"{args.scenes}-{args.steps}"
        self.data = {"train": self.place / "data" / "train", "test": self.place / "data" / f"test-{args.test_scenes}"}
        with waiting(args.work / "data.lock"):
            for split, count in (("train", args.scenes), ("test", args.test_scenes)):
                if not self.data[split].exists():
                    make(self.data[split], split, count)

    def recipe(self, changes: Mapping[str, Any], warmup: int, seed: int) -> Recipe:
        training = {key: value for key, value in TRAINING.items() if key not in ("epochs", "max_steps", "warmup_steps")}
        values = {
            **self.base,
            "data": {"train": str((self.data["train"] / self.rows[0]).resolve())},
            "training": training | {"max_steps": self.args.steps, "warmup_steps": min(warmup, self.args.steps - 1)},
            "seed": seed,
        }
        return Recipe.model_validate(values | dict(changes))

    def scores(self, setting: str, arm: str, changes: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
        """One run's scores; None where it is not finished, and nothing is to be trained."""
        for run in self.recorded.get(setting, {}).get(arm, []):
            if run["seed"] == seed:
                return dict(run)
        folder = self.place / re.sub(r"[^A-Za-z0-9.]+", "-", f"{setting}/{arm}-{seed}")
        done = folder / "scores.json"
        if not done.is_file():
            if self.args.record:
                return None
            with waiting(Path(f"{folder}.lock")):
                if not done.is_file():
                    begun = time.perf_counter()
                    train(self.recipe(changes, SETTINGS[setting], seed), folder, resume=True)
                    found = {"seed": seed, "minutes": (time.perf_counter() - begun) / 60, **self._evaluated(folder)}
                    write_json(done, found)
                    told = f"{self.keys[0]} {found['image'][self.keys[0]]:.1f} on {self.items}"
                    line = f"{setting}, {arm}, seed {seed}: {told}, in {found['minutes']:.1f} min"
                    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)
        return dict(read_json(done))

    def _evaluated(self, folder: Path) -> dict[str, Any]:
        rows = self.data["test"] / self.rows[1]
        both = {m: evaluate(folder, rows, modality=m, **self.evaluation)["scores"] for m in ("image", "text")}
        return {modality: {key: scores[key] for key in self.keys} for modality, scores in both.items()}


def shares(table: Mapping[str, list[dict[str, Any]]], key: str, base: str, top: str) -> dict[str, Any]:
    """Of what images gain over text without a crossing, the share that each arm recovers: seed by seed, then the mean.

    A seed in which images gain nothing has no share, and is not counted.
    """
    found: dict[str, list[float]] = {}
    by_seed = {arm: {run["seed"]: run["image"][key] for run in runs} for arm, runs in table.items()}
    for arm, own in by_seed.items():
        for seed, score in own.items():
            low, high = (by_seed.get(name, {}).get(seed) for name in (base, top))
            if arm not in (base, top) and low is not None and high is not None and high > low:
                found.setdefault(arm, []).append(100 * (score - low) / (high - low))
    return {arm: interval(values) for arm, values in found.items()}


def summary(runs: list[dict[str, Any]], keys: Iterable[str]) -> dict[str, Any]:
    """Means and intervals of one arm."""
    both = {m: {key: interval([run[m][key] for run in runs]) for key in keys} for m in ("image", "text")}
    return {"seeds": [run["seed"] for run in runs], **both}


def markdown(record: dict[str, Any], keys: tuple[str, ...]) -> str:
    """A table a setting."""
    lines, items = [], record["items"]
    for setting, table in record["arms"].items():
        lines += [
            f"### {setting}",
            "",
            f"| | {f', {items} in | '.join(keys)}, {items} in | {keys[0]}, text in | share recovered % | seeds |",
        ]
        lines += ["|" + "---|" * (len(keys) + 4)]
        for arm, found in table.items():
            share = record["shares"].get(setting, {}).get(arm)
            cells = [
                *(cell(found["image"][key]) for key in keys),
                cell(found["text"][keys[0]]),
                cell(share) if share else "–",
            ]
            lines.append(f"| {arm} | {' | '.join(cells)} | {len(found['seeds'])} |")
        lines.append("")
    return "\n".join(lines)


def plot(record: dict[str, Any], key: str, path: Path) -> None:
    """The first score of every arm: each seed's value, and the mean."""
    heights = [len(table) for table in record["arms"].values()]
    drawn = figure(8, 0.9 * len(heights) + 0.32 * sum(heights))
    panels = drawn.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for panel, (setting, table) in zip(panels, record["arms"].items(), strict=True):
        for modality, colour, up in (("text", "#9aa8bb", 0.14), ("image", "#1f7a63", -0.14)):
            for row, arm in enumerate(table.values()):
                score = arm[modality][key]
                label = (f"{record['items']} in" if modality == "image" else "text in") if row == 0 else None
                panel.plot([score["mean"]], [row + up], "o", color=colour, label=label)
                panel.plot(score["values"], [row + up] * len(score["values"]), "|", color=colour, markersize=9)
        panel.set_yticks(range(len(table)), list(table), fontsize=8)
        panel.set_ylim(len(table) - 0.5, -0.5)
        panel.set_title(setting, fontsize=9, loc="left")
        panel.grid(axis="x", color="#e3e7ee", linewidth=0.8)
        panel.set_axisbelow(True)
    panels[-1].set_xlabel(f"{key}: dots are means over seeds, lines each seed")
    panels[0].legend(frameon=False, fontsize=8)
    save_png(drawn, path)


def options(doc: str | None, file: str) -> argparse.Namespace:
    """What all scripts take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=938, help="of a run; half the demo's")
    parser.add_argument("--scenes", type=int, default=TRAIN_SCENES)
    parser.add_argument("--test-scenes", type=int, default=TEST_SCENES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/senses") / Path(file).parent.name)
    parser.add_argument("--out", type=Path, default=Path(file).with_name("results.json"))
    parser.add_argument("--record", action="store_true", help="train nothing: write down what is finished")
    return parser.parse_args()


def main(bench: Bench, arms: Mapping[str, Mapping[str, Any]], *, base: str = "none", top: str = "images") -> None:
    """Train what is not there, seeds outermost, and write the record, its table and its picture."""
    args, wanted = bench.args, list(_wanted(bench.args, arms))
    for seed, setting, arm in wanted if not args.record else ():
        bench.scores(setting, arm, arms[arm], seed)
    args.record, runs = True, dict[str, dict[str, list[dict[str, Any]]]]()
    for setting in SETTINGS:
        for arm, changes in arms.items():
            if found := [one for seed in args.seeds if (one := bench.scores(setting, arm, changes, seed))]:
                runs.setdefault(setting, {})[arm] = found
    if not runs:
        raise SystemExit("no run is finished here yet")
    record = {
        "settings": bench.settings,
        "items": bench.items,
        "training": TRAINING,
        "arms": {name: {arm: summary(each, bench.keys) for arm, each in table.items()} for name, table in runs.items()},
        "shares": {name: shares(table, bench.keys[0], base, top) for name, table in runs.items()},
        "runs": runs,
        **stamp(bench.place, bench.kept),
    }
    write_json(args.out, record)
    write_text(args.out.with_suffix(".md"), markdown(record, bench.keys))
    plot(record, bench.keys[0], args.out.with_suffix(".png"))
    print(markdown(record, bench.keys))


def _wanted(args: argparse.Namespace, arms: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    for seed in args.seeds:
        for setting in args.only:
            for arm in arms:
                yield seed, setting, arm
