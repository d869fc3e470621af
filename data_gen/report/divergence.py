"""How far one text's words are from another's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["WordUse", "jensen_shannon", "smoothed_kl", "word_use"]


def smoothed_kl(target: Mapping[str, int], written: Mapping[str, int], alpha: float = 1.0) -> float:
    """KL(q ‖ p) in nats, with `alpha` added to every count over the words of both.

    q(w) = (target(w) + α)/(Σ target + α·V) and p(w) the same of `written`, V the number of different words of both.
    0: the same shares. For uneven sizes it does not vanish, so compare texts of one size.
    """
    vocabulary = sorted({*target, *written})
    counts = np.array([[c.get(w, 0) for w in vocabulary] for c in (target, written)], np.float64) + alpha
    q, p = counts / counts.sum(axis=1, keepdims=True)
    return float((q * np.log(q / p)).sum())


def jensen_shannon(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Jensen–Shannon divergence in bits: 0 the same shares, 1 no word in common (or none in one of them); unsmoothed."""
    vocabulary = sorted({*one, *other})
    counts = np.array([[c.get(w, 0) for w in vocabulary] for c in (one, other)], np.float64)
    if not counts.any(axis=1).all():
        return float(counts.any())
    shares = counts / counts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log2(shares / shares.mean(axis=0)), 0.0)
    return float(terms.sum() / 2)


class WordUse(NamedTuple):
    """A word's use: per million words in both texts, their ratio, and how sure the difference is (|z| above 2: fairly)."""

    word: str
    written: float
    target: float
    ratio: float
    z: float


def word_use(target: Counter[str], written: Counter[str]) -> list[WordUse]:
    """Every word, most over-used first, by z-score.

    z is the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008, eqs. 15, 16 and 22), the
    prior being both texts together, scaled to 500 words; 0 of a word that is the only one. Ratios add half an occurrence on
    both sides.
    """
    both = target + written
    n_target, n_written, n_both = target.total(), written.total(), both.total()
    used = []
    for word, count in both.items():
        prior = 500 * count / n_both
        y_w, y_t = written[word] + prior, target[word] + prior
        rest_w, rest_t = n_written + 500 - y_w, n_target + 500 - y_t
        delta = math.log(y_w / rest_w) - math.log(y_t / rest_t) if len(both) > 1 else 0.0
        z = delta / math.sqrt(1 / y_w + 1 / y_t)
        ratio = (written[word] + 0.5) / (n_written + 1) / ((target[word] + 0.5) / (n_target + 1))
        used.append(WordUse(word, written[word] / n_written * 1e6, target[word] / n_target * 1e6, ratio, z))
    return sorted(used, key=lambda use: (-use.z, use.word))
