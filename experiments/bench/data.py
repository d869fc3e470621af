"""What happens around the models: captions of a Parquet file, tokens of a batch, and the metrics of an evaluation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet
from transformers import AutoTokenizer

from close.data.shards import open_rows
from close.evaluation.metrics import METRICS
from close.evaluation.scores import score
from close.mini import LANGUAGE_MODEL_DIR
from close.training.examples import Collator
from experiments.bench.models import sentences
from experiments.bench.parts import Timed, Variants, timed

SIZES = {"full": (100_000, 5_000), "small": (2_000, 100)}
"""Captions of the file, and pictures of the evaluation; each has five references."""


def data(folder: Path, size: str) -> Variants:
    """Seconds a row, a caption and a picture; a new Parquet file every round, since one that is known is not converted again."""
    count, images = SIZES[size]
    folder.mkdir(parents=True, exist_ok=True)
    captions, rng = sentences(count), random.Random(0)
    collate = Collator(AutoTokenizer.from_pretrained(LANGUAGE_MODEL_DIR), "text", 32)

    def rows(number: int) -> Timed:
        file = folder / f"{number}.parquet"
        parquet.write_table(pa.table({"id": [f"{number}-{i}" for i in range(count)], "source": captions}), file)
        return timed(lambda: sum(1 for _ in open_rows(file)))[0], count, {}

    def tokens(number: int) -> Timed:
        batches = [captions[start : start + 64] for start in range(0, count // 10, 64)]
        kind, tokenizer = collate.prompt.kind, collate.tokenizer
        return timed(lambda: [kind.targets(tokenizer, batch, 32) for batch in batches])[0], count // 10, {}

    def few_words() -> str:
        """Of few words, as pictures of one kind are described: n-grams meet again."""
        return " ".join(rng.choices(captions[0].split() + captions[1].split(), k=10))

    def metrics(number: int) -> Timed:
        names = METRICS.defaults("caption", java=False)
        said: dict[str, str] = {str(i): few_words() for i in range(images)}
        truth: dict[str, Any] = {key: [few_words() for _ in range(5)] for key in said}
        found = timed(lambda: score("caption", said, truth, tokenizer="python", metrics=names))
        return found[0], images, {"seconds": found[0]}

    return {"parquet": rows, "tokens": tokens, "evaluate": metrics}
