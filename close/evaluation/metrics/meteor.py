"""METEOR 1.5: Denkowski and Lavie (2014), a Java program."""

from __future__ import annotations

import numpy as np

from close.errors import CloseError, MissingError
from close.evaluation.bootstrap import Array, SummedScore
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score
from close.evaluation.metrics.tokens import package_folder, run_java

__all__ = ["meteor"]


@METRICS.register(
    Metric(
        "meteor",
        "caption",
        (Score("meteor", "METEOR"),),
        default=True,
        needs=("java",),
        source="Denkowski and Lavie, WMT 2014",
    )
)
def meteor(inputs: Inputs) -> dict[str, SummedScore]:
    """METEOR over the whole set of captions."""
    from pycocoevalcap.meteor.meteor import METEOR_JAR

    gts, res = inputs.tokens
    lines = [" ||| ".join(["SCORE", *refs, res[key][0].replace("|||", "")]) for key, refs in gts.items()]
    options = ["-Xmx2G", "-jar", str(package_folder("meteor") / METEOR_JAR), "-", "-", "-stdio", "-l", "en", "-norm"]
    try:
        output = run_java(options, "\n".join(lines) + "\n")
    except MissingError:
        raise
    except CloseError as error:  # its search has no end that it could bear in captions of thousands of equal words
        raise MissingError(f"the METEOR program failed ({str(error)[:200]})") from error
    statistics = np.array([line.split() for line in output.splitlines()], dtype=np.float64)
    if len(statistics) != len(gts):
        raise CloseError(f"METEOR returned {len(statistics)} lines for {len(gts)} captions")
    # The program counts no chunk for a caption that equals its reference.
    equal = (statistics[:, 20] == 1) & (statistics[:, 21:23] == statistics[:, 0:2]).all(axis=1)
    statistics[equal, 20] = 0
    return {"meteor": SummedScore(_corpus_meteor(statistics), statistics, _corpus_meteor)}


def _corpus_meteor(sums: Array) -> Array:
    """METEOR 1.5 (English, ranking weights) from summed statistics (..., 23).

    Columns: length of test and reference, function words of both; for each matcher (exact, stem, synonym, paraphrase)
    the matched content words of test and reference, then function words; chunks; matched words of test and reference.
    """
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75
    weights = np.array([1.0, 0.6, 0.8, 0.6])
    matches = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 4)
    found = delta * matches[..., 0:2] + (1 - delta) * matches[..., 2:4]
    length, function = sums[..., 0:2], sums[..., 2:4]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (weights[:, None] * found).sum(-2) / (delta * (length - function) + (1 - delta) * function)
        precision, recall = share[..., 0], share[..., 1]
        mean = 1 / ((1 - alpha) / precision + alpha / recall)
        fragmentation = sums[..., 20] / (sums[..., 21] + sums[..., 22]) * 2
        score = mean * (1 - gamma * fragmentation**beta)
    return np.asarray(100 * np.nan_to_num(score))
