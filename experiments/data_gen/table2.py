"""The paper's Table 2 on the mini world: captioners that learnt from real and from generated text alone, on pictures.

    python experiments/data_gen/table2.py [--count 10000] [--seeds 3] [--work runs/table2]

Five sources of as many captions each: the world's own, and those that the embedded language model writes for uniform and for
unigram-matched keywords, each with data-gen's optional filters off and on. Every seed writes its own captions and trains its
own captioner, by the recipe of `close demo`. Scores are on test pictures; means and 95 % intervals are over seeds (Student's
t). Writes table2.json and table2.md beside this file after every run. A stopped table continues.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from batched_server import running
from unigram import caption_options, prepare

from close.demo.run import METHODS, TRAINING
from close.io.files import write_json, write_text
from close.io.record import stamp
from close.mini import export
from close.runs.recipe import Recipe
from close.study.arms import Arm
from close.study.results import interval
from close.study.sweep import run_arm
from data_gen.report.divergence import smoothed_kl
from data_gen.run import generate
from data_gen.text.files import read_texts
from data_gen.text.words import count_words

FILTERS = ["length", "keywords", "near=0.9", "ngrams=500/8000"]
"""The n-gram filter's limits are ten times the paper's: this world has so few words that its own captions repeat much."""
SOURCES: dict[str, dict[str, Any] | None] = {
    "real text": None,
    "uniform keywords": {"sampling": "uniform"},
    "uniform keywords, filtered": {"sampling": "uniform", "filter": FILTERS},
    "unigram-matched keywords": {"sampling": "unigram"},
    "unigram-matched keywords, filtered": {"sampling": "unigram", "filter": FILTERS},
}
COLUMNS = {"cider": "CIDEr", "attribute_accuracy": "attribute accuracy %", "attribute_recall": "attribute recall %"}


def write_captions(
    work: Path, url: str, name: str, seed: int, count: int, files: dict[str, Path]
) -> tuple[Path, dict[str, Any]]:
    """The training captions of a source, and what is known of them."""
    given = SOURCES[name]
    out = work / "text" / f"{name.replace(' ', '_').replace(',', '')}-{seed}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    known: dict[str, Any] = {}
    if given is None:
        out = out.with_suffix(".txt")
        write_text(out, "".join(f"{text.text}\n" for text in read_texts(files["corpus"])[:count]))
    else:
        summary = generate("captions", caption_options(out, url, files, count=count, seed=seed, **given))
        known = {"requests": summary.requests, "rejected": dict(summary.rejected)}
    target, texts = (read_texts(path) for path in (files["corpus"], out))
    seen = {text.text for text in target}
    known["kl_to_target"] = smoothed_kl(*(count_words(text.text for text in some) for some in (target, texts)))
    known["new"] = sum(text.text not in seen for text in texts) / len(texts)
    return out, known


def table(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """For each source: every score's mean and interval over seeds, with pictures and with text as input; and its text."""
    return {
        name: {
            **{
                modality: {key: interval([run[modality][key] for run in runs]) for key in COLUMNS}
                for modality in ("image", "text")
            },
            "written": [run["written"] for run in runs],
            "seeds": [run["seed"] for run in runs],
        }
        for name, runs in results.items()
    }


def markdown(rows: dict[str, Any]) -> str:
    lines = [
        "| trained on | " + " | ".join(COLUMNS.values()) + " | KL to the real text |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name, row in rows.items():
        kl = sum(text["kl_to_target"] for text in row["written"]) / len(row["written"])
        lines.append(f"| {name} | " + " | ".join(_cell(row["image"][key]) for key in COLUMNS) + f" | {kl:.3f} |")
    return "\n".join(lines) + "\n"


def _cell(score: dict[str, Any]) -> str:
    return f"{score['mean']:.1f}" + (f" ± {score['ci'][1] - score['mean']:.1f}" if score["ci"] else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="captions of each source")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test-scenes", type=int, default=300)
    parser.add_argument("--epochs", type=float, help="instead of the demo's")
    parser.add_argument("--work", type=Path, default=Path("runs/table2"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    files = prepare(args.work)
    test = args.work / f"test-{args.test_scenes}"
    if not test.exists():
        export(test, "test", args.test_scenes)
    training = TRAINING | ({"epochs": args.epochs} if args.epochs else {})
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in SOURCES}
    for seed in range(args.seeds):
        with running() as url:
            texts = {name: write_captions(args.work, url, name, seed, args.count, files) for name in SOURCES}
        for name, (path, known) in texts.items():
            base = Recipe.model_validate({"data": {"train": path}, "training": training, **METHODS["close"]})
            scores = run_arm(base, Arm(name), seed, test / "eval.jsonl", args.work)
            results[name].append({"seed": seed, "written": known, **scores})
            print(f"seed {seed}, {name}: {scores['image']}", file=sys.stderr, flush=True)
            rows = table({name: runs for name, runs in results.items() if runs})
            record = {
                "captions": args.count,
                "test_pictures": args.test_scenes,
                "server": "experiments/data_gen/batched_server.py around data_gen/mini/mini_model",
                "sources": SOURCES,
                "recipe": {"training": training, **METHODS["close"]},
                "scores": rows,
                **stamp(args.work),
            }
            write_json(args.out, record)
            write_text(args.out.with_suffix(".md"), markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
