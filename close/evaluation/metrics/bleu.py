"""BLEU: Papineni et al. (2002), as pycocoevalcap computes it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from close.evaluation.bootstrap import Array, SummedScore
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score

__all__ = ["bleu"]


@METRICS.register(
    Metric(
        "bleu",
        "caption",
        tuple(Score(f"bleu_{n}", f"BLEU-{n}") for n in range(1, 5)),
        default=True,
        source="Papineni et al., ACL 2002",
    )
)
def bleu(inputs: Inputs) -> dict[str, SummedScore]:
    """BLEU-1 to BLEU-4 over the whole set of captions, the closest reference's length."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    gts, res = inputs.tokens
    scorer = BleuScorer(n=4)
    for key, refs in gts.items():
        scorer += (res[key][0], refs)
    _, per_image = scorer.compute_score(option="closest", verbose=0)
    statistics = np.array(
        [[*c["correct"], *c["guess"], c["testlen"], _closest(c["reflen"], c["testlen"])] for c in scorer.ctest],
        dtype=np.float64,
    )
    return {
        f"bleu_{n}": SummedScore(100 * np.array(per_image[n - 1]), statistics, partial(_corpus_bleu, n=n))
        for n in range(1, 5)
    }


def _closest(lengths: Iterable[int], said: int) -> int:
    """The reference's length that is nearest to that of what was said; of two as near, the shorter."""
    return min(lengths, key=lambda length: (abs(length - said), length))


def _corpus_bleu(sums: Array, n: int) -> Array:
    """Corpus BLEU-n from summed (correct 1..4, guesses 1..4, length, reference length), guarded as pycocoevalcap does."""
    small, tiny = 1e-9, 1e-15
    precision = np.prod([(sums[..., k] + tiny) / (sums[..., 4 + k] + small) for k in range(n)], axis=0) ** (1 / n)
    ratio = (sums[..., 8] + tiny) / (sums[..., 9] + small)
    return np.asarray(100 * precision * np.exp(np.minimum(0, 1 - 1 / ratio)))
