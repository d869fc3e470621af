"""`python -m experiments.bench.scale`: memory and rate of embedding 10³ … 10⁶ captions, and of training's reading them.

Each size runs in a process of its own, so that its peak is its own. Writes scale.json and scale.png.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any


def main() -> None:
    """Every size, then the two files."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.scale")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--one", type=int, help="run one size in this process and print its result")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    found = []
    for size in options.sizes:
        command = [sys.executable, "-m", "experiments.bench.scale", "--one", str(size)]
        found.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        print(found[-1] | {"rates": "…"}, file=sys.stderr)
    (options.out / "scale.json").write_text(json.dumps(found, indent=2) + "\n")
    draw(found, options.out / "scale.png")


def one(size: int) -> dict[str, Any]:
    """Peak memory and rate at one size."""
    from close.data.rows import RowFile
    from close.encoders import load_encoder
    from close.tasks import get_task
    from close.training.examples import LengthSampler, TextDataset
    from close.vectors.build import embed_texts

    with tempfile.TemporaryDirectory() as place:
        data = write_captions(Path(place) / "captions.jsonl", size)
        encoder = load_encoder("mini", device="cpu")
        encoder.encode_text(["a red circle"] * 256)
        rows, marks = RowFile(data), [(time.perf_counter(), 0)]
        start = time.perf_counter()
        table = embed_texts(
            rows, encoder, Path(place) / "table", progress=lambda done, _: marks.append((time.perf_counter(), done))
        )
        seconds = time.perf_counter() - start
        embedding_peak = peak_mb()
        dataset = TextDataset(rows, get_task("caption"), table)
        start = time.perf_counter()
        for index, _ in zip(LengthSampler(dataset, 64, 0), range(5000), strict=False):
            dataset[index]
        reading = min(5000, size) / (time.perf_counter() - start)
        return {
            "captions": size,
            "distinct": table.info["vectors"],
            "seconds": round(seconds, 1),
            "captions_per_second": round(size / seconds),
            "peak_mb_embedding": embedding_peak,
            "private_mb_with_training_reads": private_mb(),
            "training_reads_per_second": round(reading),
            "rates": rates(marks),
            "threads": len(os.sched_getaffinity(0)),
        }


def rates(marks: list[tuple[float, int]], bins: int = 10) -> list[float]:
    """Distinct captions a second, over consecutive tenths of the work."""
    moved = [mark for mark in marks if mark[1]]
    step = max(1, len(moved) // bins)
    kept = [marks[1], *moved[step - 1 :: step]]
    return [round((b[1] - a[1]) / max(b[0] - a[0], 1e-9), 1) for a, b in pairwise(kept)]


def write_captions(path: Path, size: int) -> Path:
    """Distinct captions in the mini world's words."""
    rng, words = random.Random(0), mini_words()
    with path.open("w", encoding="utf-8") as file:
        for number in range(size):
            text = " ".join(rng.choices(words, k=rng.randint(5, 14)))
            file.write(json.dumps({"id": str(number), "source": text}) + "\n")
    return path


def mini_words() -> list[str]:
    """The words that the mini encoder's tokenizer knows."""
    from close.mini import ENCODER_DIR

    vocabulary = json.loads((ENCODER_DIR / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(word for word in vocabulary if word.isalpha())


def peak_mb() -> int:
    """This process's greatest resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def private_mb() -> int:
    """This process's own memory now, without the pages of mapped files, which the kernel takes back at need."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Memory and rate against size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    sizes = [one["captions"] for one in found]
    left.semilogx(sizes, [one["peak_mb_embedding"] for one in found], "o-", label="embedding, peak")
    left.semilogx(
        sizes, [one["private_mb_with_training_reads"] for one in found], "s--", label="training's reads, own memory"
    )
    left.set(xlabel="captions", ylabel="resident memory, MB", ylim=(0, None))
    left.legend()
    right.semilogx(sizes, [one["captions_per_second"] for one in found], "o-")
    right.set(xlabel="captions", ylabel="captions a second", ylim=(0, None))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
