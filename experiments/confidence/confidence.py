"""What re-ranking is worth, and how well likelihood, CLIP cosine and both tell right captions from wrong ones, on the mini world.

    python -m experiments.confidence.confidence

Captioners without noise and with it, three seeds each, caption pictures with five candidates, once the best of five beams and
once five samples. Re-ranking: the candidate whose own text vector is nearest to the picture's, against the likeliest. Confidence:
the share of true claims among all that is claimed of the surest 100, 80 and 50 % of the pictures, by three signals; both are
weighed, and confidence learnt, on validation pictures. Writes confidence.json and confidence.png beside this file. A stopped run
continues.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

import close
from close.data.rows import Row, RowFile
from close.demo.run import METHODS, TRAINING
from close.evaluation.bootstrap import SummedScore, compare_summed
from close.evaluation.calibration import COVERAGES, Signal, aurc, ece, fit, interval
from close.evaluation.scores import score_rows
from close.io.files import read_json, write_json
from close.io.plots import Colours, figure, save_png
from close.io.record import stamp
from close.mini import export
from close.runs.outputs import Answer
from close.runs.pipeline import CloseCaptioner
from close.runs.recipe import Recipe
from close.training.train import train
from close.vectors.cache import cached_table

ARMS = {name: METHODS[name] for name in ("none", "close")}
FOUND: dict[str, dict[str, Any]] = {
    "beams": {"n": 5, "num_beams": 5},
    "samples": {"n": 5, "do_sample": True, "num_beams": 1, "top_p": 0.9},
}
SIGNALS: tuple[Signal, ...] = ("likelihood", "cosine", "both")
SCORES = ("attribute_accuracy", "cider")
Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/confidence"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--steps", type=int, default=938, help="of training; the demo's captioner with noise takes twice as many"
    )
    parser.add_argument("--pictures", type=int, default=500, help="of validation, and of test")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("confidence.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"train": 3000, "val": args.pictures, "test": args.pictures}
    places = {split: args.work / f"{split}-{count}" for split, count in sizes.items()}
    for split, place in places.items():
        if not place.exists():
            export(place, split, sizes[split], 0)
    runs: list[dict[str, Any]] = []
    for seed in args.seeds:
        for arm in ARMS:
            runs += [{"arm": arm, "seed": seed, **one} for one in measured(arm, seed, args, places)]
            record = {
                "settings": FOUND,
                "steps": args.steps,
                "pictures": args.pictures,
                "arms": ARMS,
                **stamp(args.work),
            }
            write_json(args.out, record | {"summary": summary(runs), "runs": runs})
    plot(runs, args.out.with_suffix(".png"))


def measured(arm: str, seed: int, args: argparse.Namespace, places: Mapping[str, Path]) -> list[dict[str, Any]]:
    """What one captioner gives, a record a way of finding candidates; kept beside its folder."""
    begun, folder = time.perf_counter(), args.work / f"{arm}-{seed}-{args.steps}"
    kept = folder.with_suffix(f".{args.pictures}.json")
    if not kept.is_file():
        training = {key: value for key, value in TRAINING.items() if key != "epochs"} | {"max_steps": args.steps}
        values = {
            "data": {"train": places["train"] / "captions.jsonl"},
            "training": training,
            "seed": seed,
            **ARMS[arm],
        }
        train(Recipe.model_validate(values), folder, resume=True)
        captioner = close.load(folder)
        captioner.without_confidence()
        found = []
        for name, settings in FOUND.items():
            rows = {split: RowFile(places[split] / "eval.jsonl") for split in ("val", "test")}
            said = {split: answers(captioner, own, settings) for split, own in rows.items()}
            found.append(
                {"found": name, **ranked(captioner, rows["test"], said["test"]), **confidence(rows, said, captioner)}
            )
        write_json(kept, {"runs": found})
        print(f"{arm}, seed {seed}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    runs: list[dict[str, Any]] = read_json(kept)["runs"]
    return runs


def answers(captioner: CloseCaptioner, rows: RowFile, settings: Mapping[str, Any]) -> list[Answer]:
    """Five candidates of each picture with their cosines, the likeliest said."""
    vectors = torch.from_numpy(np.asarray(cached_table(rows, captioner.encoder, "image")[:]))
    torch.manual_seed(0)
    return [
        answer
        for batch in vectors.split(50)
        for answer in captioner.answer(batch, [""] * len(batch), cosine=True, **settings)
    ]


def scores(captioner: CloseCaptioner, rows: Sequence[Row], texts: Sequence[str]) -> dict[str, SummedScore]:
    return score_rows(captioner.task, rows, texts, tokenizer="python", metrics=["cider"])[0].metrics


def ranked(captioner: CloseCaptioner, rows: RowFile, said: Sequence[Answer]) -> dict[str, Any]:
    """The nearest candidate against the likeliest, on the same pictures; and the best of the five that anyone could take."""
    nearest = [max(one.candidates, key=lambda candidate: candidate.cosine or -1).text for one in said]
    likeliest = [one.text for one in said]
    by = {"likelihood": scores(captioner, list(rows), likeliest), "clip": scores(captioner, list(rows), nearest)}
    return {
        "candidates": float(np.mean([len(one.candidates) for one in said])),
        "changed": float(np.mean([a != b for a, b in zip(likeliest, nearest, strict=True)])),
        "rerank": {score: compare_summed(by["likelihood"][score], by["clip"][score]) for score in SCORES},
    }


def confidence(
    rows: Mapping[str, RowFile], said: Mapping[str, Sequence[Answer]], captioner: CloseCaptioner
) -> dict[str, Any]:
    """Of what is said without re-ranking: true claims of the surest pictures by each signal, weighed and mapped on validation."""
    truth = {
        split: scores(captioner, list(rows[split]), [one.text for one in said[split]])["attribute_accuracy"]
        for split in rows
    }
    columns = {
        split: (
            np.array([one.likelihood for one in own]),
            np.array([np.nan if one.cosine is None else one.cosine for one in own]),
        )
        for split, own in said.items()
    }
    right, test = truth["val"].per_example / 100, truth["test"]
    out: dict[str, Any] = {}
    for signal in SIGNALS:
        found = fit(signal, *columns["val"], right)
        order, sure = found.signal(*columns["test"]), found(*columns["test"])
        out[signal] = {
            "weights": found.weights,
            "aurc": aurc(order, test.per_example / 100),
            "ece": ece(sure, test.per_example / 100),
            "accuracy": {f"{share:.0%}": claims_true(order, test.statistics, share) for share in COVERAGES},
            "ci": {
                f"{share:.0%}": interval(lambda o, s, share=share: claims_true(o, s, share), order, test.statistics)
                for share in COVERAGES
            },
        }
    return {"confidence": out}


def claims_true(order: Array, statistics: Array, share: float) -> float:
    """Percent of true claims among those of the surest share of the pictures."""
    kept = np.argsort(-order, kind="stable")[: math.ceil(share * len(order) - 1e-9)]
    true, made = statistics[kept].sum(0)
    return float(true / max(made, 1))


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and half the 95 % interval of the mean (Student's t)."""
    out: dict[str, Any] = {}
    for arm in ARMS:
        for name in FOUND:
            own = [run for run in runs if (run["arm"], run["found"]) == (arm, name)]
            if not own:
                continue
            out[f"{arm}, {name}"] = {
                "rerank": {score: mean([run["rerank"][score]["difference"] for run in own]) for score in SCORES},
                "likeliest": {score: mean([run["rerank"][score]["a"] for run in own]) for score in SCORES},
                "changed": mean([run["changed"] for run in own]),
                "confidence": {signal: spread([run["confidence"][signal] for run in own]) for signal in SIGNALS},
            }
    return out


def spread(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What one signal does, over seeds."""
    shares = {share: mean([one["accuracy"][share] for one in found]) for share in found[0]["accuracy"]}
    return shares | {key: mean([one[key] for one in found]) for key in ("aurc", "ece")}


def mean(values: Sequence[float]) -> dict[str, Any]:
    """`mean`, `half` of the interval (None of one seed), and the `values`."""
    half = (
        stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
    )
    return {"mean": float(np.mean(values)), "half": None if half is None else float(half), "values": list(values)}


def plot(runs: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Accuracy of claims by coverage, a panel a captioner and way of finding, a line a signal, a thin one a seed."""
    panels = [(arm, name) for arm in ARMS for name in FOUND]
    drawn = figure(9.6, 2.7)
    colours = {"likelihood": Colours.PSEUDO_IMAGE, "cosine": Colours.LINE, "both": Colours.IMAGE}
    for axes, (arm, name) in zip(drawn.subplots(1, len(panels), sharey=True), panels, strict=True):
        own = [run["confidence"] for run in runs if (run["arm"], run["found"]) == (arm, name)]
        for signal, colour in colours.items():
            lines = [[run[signal]["accuracy"][f"{share:.0%}"] for share in COVERAGES] for run in own]
            for line in lines:
                axes.plot([100 * share for share in COVERAGES], line, color=colour, linewidth=0.6, alpha=0.4)
            axes.plot(
                [100 * share for share in COVERAGES], np.mean(lines, 0), color=colour, linewidth=1.8, label=signal
            )
        axes.set_title(f"{'no noise' if arm == 'none' else 'CLOSE'}, {name}", fontsize=8)
        axes.set_xlabel("pictures kept, %")
        axes.grid(color=Colours.GRID, linewidth=0.6)
    drawn.axes[0].set_ylabel("claims that are true, %")
    drawn.axes[0].legend(frameon=False, fontsize=7)
    save_png(drawn, path)


if __name__ == "__main__":
    main()
