"""CIDEr-D: Vedantam et al. (2015), as pycocoevalcap computes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.evaluation.bootstrap import mean_score
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score

__all__ = ["cider", "cider_of_each"]


@METRICS.register(
    Metric(
        "cider",
        "caption",
        (Score("cider", "CIDEr", scale=(0, None), headline=True),),
        primary=True,
        default=True,
        source="Vedantam et al., CVPR 2015",
    )
)
def cider(inputs: Inputs) -> dict[str, Any]:
    """CIDEr-D, mean over images; document frequencies are those of the whole set."""
    gts, _ = inputs.tokens
    found: dict[str, Any] = {"cider": mean_score(100 * cider_of_each(inputs))}
    if _all_alike(gts.values()):
        what = "of one image" if len(gts) == 1 else "of images whose references are all alike"
        found["notes"] = {"cider": f"CIDEr-D {what} is 0 by its formula: words count by how few images have them"}
    return found


def cider_of_each(inputs: Inputs) -> NDArray[np.float64]:
    """CIDEr-D of each image, 0 to 10; found once for all metrics that are made of it."""
    from pycocoevalcap.cider.cider import Cider

    return np.asarray(inputs.once("cider", lambda: Cider().compute_score(*inputs.tokens)[1]))


def _all_alike(references: Iterable[list[str]]) -> bool:
    """Whether every n-gram of the references is in those of every image, so that each weighs log 1 = 0."""
    first: set[tuple[str, ...]] | None = None
    for several in references:
        grams = {
            tuple(words[i : i + n]) for words in map(str.split, several) for n in range(1, 5) for i in range(len(words))
        }
        if first is None:
            first = grams
        elif grams != first:
            return False
    return True
