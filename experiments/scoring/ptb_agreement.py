"""How far the Python tokenizer agrees with the Java one, and how fast scoring is.

    python experiments/scoring/ptb_agreement.py CAPTIONS.json [--out experiments/scoring/ptb_agreement.json]

CAPTIONS.json is a COCO captions file. Each image's first caption is scored against its others, and against those of
another image for every second one, so that the scores are neither all high nor all low.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

import numpy as np

from close.evaluation.bootstrap import Scores
from close.evaluation.metrics.captions import caption_scores
from close.evaluation.metrics.tokens import java_tokens, python_tokens
from close.evaluation.read import read_references
from close.io.files import write_json

NO_JAVA = ("bleu", "rouge_l", "cider")


def tokens(references: dict[str, list[str]]) -> dict[str, int]:
    """Captions, and those of which the tokens differ."""
    ours, theirs = python_tokens(references), java_tokens(references)
    pairs = [(a, b) for key in references for a, b in zip(ours[key], theirs[key], strict=True)]
    return {"captions": len(pairs), "different": sum(a != b for a, b in pairs)}


def scored(references: dict[str, list[str]]) -> dict[str, Any]:
    """The same predictions by both tokenizers: seconds, scores, largest difference of one image's CIDEr."""
    keys, draw = list(references), random.Random(0)
    said = {key: references[draw.choice(keys) if n % 2 else key][0] for n, key in enumerate(keys)}
    others = {key: captions[1:] for key, captions in references.items()}
    found: dict[str, Scores] = {}
    seconds = {}
    for tokenizer in ("python", "java"):
        start = time.process_time()
        found[tokenizer] = caption_scores(said, others, tokenizer=tokenizer, metrics=NO_JAVA)
        seconds[tokenizer] = round(time.process_time() - start, 1)
    python, java = (found[tokenizer].metrics["cider"].per_example for tokenizer in ("python", "java"))
    gap = np.abs(python - java).max()
    return {
        "predictions": len(said),
        "references": sum(map(len, others.values())),
        "cpu_seconds": seconds,
        "cider": {name: scores["cider"] for name, scores in found.items()},
        "largest_cider_difference_of_an_image": float(gap),
    }


def main() -> None:
    """SummedScore, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("captions", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    references = read_references(arguments.captions, "caption")
    result = {"data": arguments.captions.name, "tokens": tokens(references), "scores": scored(references)}
    write_json(arguments.out, result)
    print(result)


if __name__ == "__main__":
    main()
