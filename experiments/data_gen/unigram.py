"""Unigram matching at work: how far the words of what is written are from a target, over a run, with and without it.

    python experiments/data_gen/unigram.py [--count 10000] [--work runs/unigram]

`data-gen captions` writes captions of the mini world with the embedded language model, once with uniform keywords and once
matched to the captions of a training set. The model is behind `batched_server.py`, real HTTP and the same API as
`data-gen serve-mini`. Writes unigram.json and unigram.png beside this file. A stopped run continues.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from batched_server import running
from matplotlib.figure import Figure

from close.io.files import write_json
from close.io.versions import versions
from close.mini import captions, scenes
from data_gen import CaptionOptions
from data_gen.mini.serve import MODEL
from data_gen.report.divergence import smoothed_kl
from data_gen.run import generate
from data_gen.text.files import read_texts
from data_gen.text.words import count_words

SCENES, EXAMPLES, SHOTS, POINTS = 2000, 50, 5, 40


def prepare(folder: Path) -> dict[str, Path]:
    """The target, five captions of each of 2,000 training scenes, and 50 captions of other scenes as shots."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"corpus": folder / "corpus.txt", "examples": folder / "examples.txt"}
    files["corpus"].write_text("".join(f"{c}\n" for scene in scenes("train", SCENES) for c in captions(scene)))
    files["examples"].write_text("".join(f"{captions(scene, 1)[0]}\n" for scene in scenes("val", EXAMPLES)))
    return files


def curve(target: Counter[str], texts: list[str]) -> list[tuple[int, float]]:
    """Smoothed KL(target ‖ written) in nats after every fortieth of the run."""
    written: Counter[str] = Counter()
    points = []
    step = max(1, len(texts) // POINTS)
    for start in range(0, len(texts), step):
        written += count_words(texts[start : start + step])
        points.append((min(start + step, len(texts)), smoothed_kl(target, written)))
    return points


def draw(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    for (name, points), colour in zip(curves.items(), ("#9aa8bb", "#1f7a63"), strict=True):
        axes.plot(*zip(*points, strict=True), color=colour, label=f"{name} keywords")
    axes.set(xlabel="captions written", ylabel="KL(target ‖ written), nats", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)


def caption_options(out: Path, url: str, files: dict[str, Path], **given: Any) -> CaptionOptions:
    """How the embedded model is asked in all these experiments."""
    fixed = {"model": MODEL, "shots": SHOTS, "temperature": 1.0, "concurrency": 200}
    return CaptionOptions(out=out, base_url=url, **fixed, **files, **given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--work", type=Path, default=Path("runs/unigram"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    files = prepare(args.work)
    target = count_words(text.text for text in read_texts(files["corpus"]))
    curves, summaries, shares = {}, {}, {}
    with running() as url:
        for sampling in ("uniform", "unigram"):
            out = args.work / f"{sampling}.jsonl"
            options = caption_options(out, url, files, count=args.count, sampling=sampling)
            summaries[sampling] = generate("captions", options).as_json()
            texts = [text.text for text in read_texts(out)]
            curves[sampling] = curve(target, texts)
            shares[sampling] = count_words(texts)
            print(f"{sampling}: KL {curves[sampling][-1][1]:.4f}", file=sys.stderr)
    last = {sampling: points[-1][1] for sampling, points in curves.items()}
    record: dict[str, Any] = {
        "server": "experiments/data_gen/batched_server.py around data_gen/mini/mini_model",
        "count": args.count,
        "shots": SHOTS,
        "temperature": 1.0,
        "kl": last,
        "ratio": last["unigram"] / last["uniform"],
        "falls": curves["unigram"][-1][1] < curves["unigram"][len(curves["unigram"]) // 4][1] < curves["unigram"][0][1],
        "curves": curves,
        "per_mille": {
            word: {
                name: round(1000 * counts[word] / counts.total(), 2)
                for name, counts in {"target": target, **shares}.items()
            }
            for word, _ in target.most_common()
        },
        "summaries": summaries,
        "versions": versions(),
    }
    write_json(args.out, record)
    draw(curves, args.out.with_suffix(".png"))
    print(json.dumps({key: record[key] for key in ("count", "kl", "ratio", "falls")}))


if __name__ == "__main__":
    main()
