"""Some short trainings and their scores, as sums: two codes that make the same numbers print the same.

    PYTHONPATH=CHECKOUT python experiments/again/canary.py FOLDER     # with the `close` of that checkout

Prints one line of JSON: of each training a hash of its weights, of the texts that the run then says of pictures, and its scores.
Takes nothing of `close` that is not as old as the records whose code it is run with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.mini import export
from close.runs.evaluate import evaluate
from close.runs.recipe import Recipe
from close.training.train import train
from close.vectors.cache import cached_table

TRAINING = {"batch_size": 64, "learning_rate": 0.002, "warmup_steps": 5, "save_strategy": "no", "logging_steps": 20}
NOISE = {"gaussian": {"cosine": 0.67}}


def trainings(captions: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """By name: what a recipe has of its own, and which test rows it is scored on."""
    encoder, rows = load_encoder("mini"), RowFile(captions)
    text, image = (str(cached_table(rows, encoder, side).path.resolve()) for side in ("text", "image"))
    pairs = {"text": text, "image": image}
    found = {
        "no adapter": {"adapter": "none"},
        "noise": {"adapter": [NOISE], "training": {"max_steps": 150}},
        "shared": {"adapter": ["shared", NOISE]},
        "centring": {"adapter": [{"centring": {"fit": {"image": image}}}, NOISE]},
        "covariance": {"adapter": [{"covariance": {"fit": pairs}}, NOISE]},
        "ridge": {"adapter": [{"linear": {"method": "ridge", "fit": pairs}}, NOISE]},
        "multiple captions": {"adapter": [NOISE], "captions": "multiple"},
        "neighbours": {"adapter": [NOISE], "retrieve": {"into": "vectors", "k": 3, "noise": 0.67}},
        "images": {"adapter": "none", "train_on": "image"},
        "label smoothing": {"adapter": "none", "training": {"label_smoothing_factor": 0.1}},
        "Transformer prefix, LoRA": {"adapter": [NOISE], "prefix": {"kind": "transformer"}, "tune": "lora"},
    }
    arms = {name: (own, "eval") for name, own in found.items()}
    for task, file in (("vqa", "vqa"), ("entailment", "entailment"), ("nlvr2", "pairs")):
        arms[task] = (
            {"task": task, "adapter": [NOISE], "data": {"train": str(captions.with_name(f"{file}.jsonl"))}},
            file,
        )
    return arms


def sums(run: Path, test: Path) -> dict[str, Any]:
    """Of a finished run."""
    weights, texts = hashlib.sha256(), hashlib.sha256()
    for file in sorted(run.rglob("*.safetensors")):
        for name, tensor in sorted(load_file(file).items()):
            weights.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    scores = evaluate(run, test, tokenizer="python", folder=run / "seen")["scores"]
    for line in (run / "seen" / "predictions.jsonl").read_text(encoding="utf-8").splitlines():
        texts.update(json.loads(line)["text"].encode())
    last = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {
        "weights": weights.hexdigest()[:12],
        "texts": texts.hexdigest()[:12],
        "scores": {key: value for key, value in scores.items() if isinstance(value, (int, float))},
        "loss": last["train_loss"],
    }


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folder", type=Path)
    made.add_argument("--steps", type=int, default=40)
    made.add_argument("--scenes", type=int, default=200)
    made.add_argument("--test-scenes", type=int, default=24)
    made.add_argument("--only", nargs="+", help="trainings by name")
    args = made.parse_args()
    torch.set_num_threads(1)
    folder = args.folder
    os.environ["CLOSE_CACHE"] = str(folder / "cache")  # what another code has embedded is not to be found
    for split, count in (("train", args.scenes), ("test", args.test_scenes)):
        if not (folder / split).exists():
            export(folder / split, split, count)
    captions, found = (folder / "train" / "captions.jsonl").resolve(), {}
    for name, (own, file) in trainings(captions).items():
        if args.only and name not in args.only:
            continue
        training = TRAINING | {"max_steps": args.steps} | own.get("training", {})
        recipe = Recipe.model_validate({"data": {"train": str(captions)}} | own | {"training": training})
        run = folder / name.replace(" ", "_")
        train(recipe, run, resume=True)
        found[name] = sums(run, folder / "test" / f"{file}.jsonl")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
