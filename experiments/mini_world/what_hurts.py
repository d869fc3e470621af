"""What makes a model that was trained without noise fall behind on pictures: the width of the gap, or what pictures hold beside?

    close demo
    python experiments/mini_world/what_hurts.py demo

Takes the demo's runs and changes only the pictures' vectors. "shift": all move along the line between the two means, by a
share of its length (−1: no distance is left). "mixed": each picture's deviation from the mean gets a share of another
picture's, so that it holds things that its captions don't. Writes what_hurts.json beside this file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import close
from close.data.rows import RowFile
from close.evaluation.scores import score_rows
from close.io.files import write_json
from close.io.versions import versions
from close.vectors.cache import cached_table

SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
SHARES = (0.0, 0.7, 1.0, 1.5)
METHODS = ("none", "close", "image")


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def variants(image: NDArray[Any], text: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """The pictures' vectors, changed."""
    mean, gap = image.mean(0), image.mean(0) - text.mean(0)
    own = image - mean
    other = own[np.roll(np.random.default_rng(0).permutation(len(own)), 1)]
    length = np.linalg.norm(own, axis=1).mean()
    found = {f"shift {by:g}": unit(image + by * gap) for by in SHIFTS}
    return found | {f"mixed {share:g}": unit(mean + length * unit(own + share * other)) for share in SHARES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of `close demo`")
    args = parser.parse_args()
    train, test = (
        RowFile(next((args.demo / "data").glob(name))) for name in ("train-*/captions.jsonl", "test-*/eval.jsonl")
    )
    scores: dict[str, Any] = {}
    for method in METHODS:
        captioner = close.load(args.demo / "runs" / method)
        image, own = (cached_table(test, captioner.encoder, modality)[:] for modality in ("image", "text"))
        text = cached_table(train, captioner.encoder, "text")[:]
        for name, vectors in variants(image, text).items():
            batches = torch.from_numpy(vectors).split(64)
            said = [words for batch in batches for words, _ in captioner.generate(batch, [""] * len(batch))]
            found, _ = score_rows(captioner.task, list(test), said, tokenizer="python", metrics=("cider",))
            about = scores.setdefault(name, {"distance": float(np.linalg.norm(vectors.mean(0) - text.mean(0)))})
            centred = [unit(rows - rows.mean(0)) for rows in (vectors, own)]
            about["centred_cosine_to_own_caption"] = float((centred[0] * centred[1]).sum(1).mean())
            about[method] = {key: round(found[key], 1) for key in ("cider", "attribute_accuracy")}
            print(method, name, about[method], flush=True)
    write_json(Path(__file__).with_suffix(".json"), {"scores": scores, "versions": versions()})


if __name__ == "__main__":
    main()
