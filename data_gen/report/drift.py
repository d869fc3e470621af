"""Figures of how far one set of texts is from another."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

from data_gen.filters import Candidate, Duplicate, NearDuplicate
from data_gen.report.divergence import jensen_shannon, smoothed_kl, word_use
from data_gen.text.words import count_words, same_text, words

__all__ = ["drift"]

_CHECKPOINTS = 24


def drift(written: Sequence[str], target: Sequence[str]) -> dict[str, Any]:
    """Every figure of the report that follows from the texts.

    Lengths are in words, `kl` in nats (see `smoothed_kl`), `js` in bits, shares from 0 to 1.
    """
    counts, wanted = count_words(written), count_words(target)
    pairs, wanted_pairs = _bigrams(written), _bigrams(target)
    used = word_use(wanted, counts)
    return {
        "texts": {"written": len(written), "target": len(target)},
        "length": {"written": _lengths(written), "target": _lengths(target)},
        "vocabulary": {
            "written": len(counts),
            "target": len(wanted),
            "written_words_unknown_to_target": _unknown(counts, wanted),
            "target_words_never_written": _unknown(wanted, counts),
        },
        "unigram": {"kl": smoothed_kl(wanted, counts), "js": jensen_shannon(wanted, counts)},
        "bigram": {"kl": smoothed_kl(wanted_pairs, pairs), "js": jensen_shannon(wanted_pairs, pairs)},
        "overused": [use._asdict() for use in used[:25]],
        "underused": [use._asdict() for use in used[::-1][:25]],
        "duplicates": {**_duplicates(written), "copied_from_target": _copied(written, target)},
        "diversity": {"written": _diversity(written), "target": _diversity(target)},
        "frequent_phrases": _phrases(written, target),
        "readability": {"written": _readability(written), "target": _readability(target)},
        "kl_over_the_run": _kl_over_the_run(written, wanted),
    }


def _bigrams(texts: Sequence[str]) -> Counter[str]:
    return Counter(f"{a} {b}" for text in texts for a, b in itertools.pairwise(words(text)))


def _lengths(texts: Sequence[str]) -> dict[str, float]:
    lengths = np.array([len(words(text)) for text in texts])
    low, median, high = np.percentile(lengths, [5, 50, 95])
    return {"mean": float(lengths.mean()), "p5": float(low), "median": float(median), "p95": float(high)}


def _unknown(counts: Counter[str], other: Counter[str]) -> float:
    return sum(count for word, count in counts.items() if word not in other) / counts.total()


def _duplicates(texts: Sequence[str]) -> dict[str, float]:
    found = {"exact": 0, "near": 0}
    exact, near = Duplicate(), NearDuplicate(0.7)
    for text in texts:
        candidate = Candidate("", "", text, text)
        name = "exact" if exact.rejects(candidate) else "near" if near.rejects(candidate) else None
        if name:
            found[name] += 1
        else:
            exact.add(candidate)
            near.add(candidate)
    return {name: count / len(texts) for name, count in found.items()}


def _copied(texts: Sequence[str], target: Sequence[str]) -> float:
    known = set(map(same_text, target))
    return sum(same_text(text) in known for text in texts) / len(texts)


def _diversity(texts: Sequence[str]) -> dict[str, float]:
    """Different n-grams per n-gram, in up to 5,000 texts (the ratio falls with size), and the entropy of words in bits."""
    some = [words(text) for text in Random(0).sample(list(texts), min(5000, len(texts)))]
    result = {}
    for n in (1, 2, 3):
        grams = Counter(gram for found in some for gram in zip(*(found[i:] for i in range(n)), strict=False))
        result[f"distinct_{n}"] = len(grams) / max(1, grams.total())
    shares = np.array(list(Counter(itertools.chain.from_iterable(some)).values()), np.float64)
    shares /= shares.sum()
    return {**result, "entropy": float(0.0 - (shares * np.log2(shares)).sum())}


def _phrases(written: Sequence[str], target: Sequence[str]) -> list[dict[str, Any]]:
    """The 4-grams that are written most often, per 1,000 texts."""
    grams, wanted = (Counter(g for text in texts for g in _fours(text)) for texts in (written, target))
    return [
        {"phrase": gram, "written": 1000 * count / len(written), "target": 1000 * wanted[gram] / len(target)}
        for gram, count in grams.most_common(15)
    ]


def _fours(text: str) -> list[str]:
    """Each 4-gram once, in order (a set's order would differ from process to process)."""
    found = words(text)
    return list(dict.fromkeys(" ".join(found[i : i + 4]) for i in range(len(found) - 3)))


def _readability(texts: Sequence[str]) -> dict[str, float]:
    """Letters per word, words per sentence, and Flesch's reading ease with vowel groups for syllables (English only)."""
    found = [word for text in texts for word in words(text)]
    sentences = sum(max(1, len(re.findall(r"[.!?…]+(?:\s|$)|[。！？｡।॥؟۔]+", text))) for text in texts)
    syllables = sum(max(1, len(re.findall(r"[aeiouy]+", word.removesuffix("e")))) for word in found)
    per_sentence, per_word = len(found) / sentences, syllables / len(found)
    return {
        "letters_per_word": sum(map(len, found)) / len(found),
        "words_per_sentence": per_sentence,
        "flesch_reading_ease": 206.835 - 1.015 * per_sentence - 84.6 * per_word,
    }


def _kl_over_the_run(written: Sequence[str], wanted: Counter[str]) -> list[tuple[int, float]]:
    """Smoothed KL of the first n texts, for growing n."""
    ends = sorted({round(len(written) * k / _CHECKPOINTS) for k in range(1, _CHECKPOINTS + 1)} - {0})
    counts: Counter[str] = Counter()
    curve, start = [], 0
    for end in ends:
        counts.update(count_words(written[start:end]))
        curve.append((end, smoothed_kl(wanted, counts)))
        start = end
    return curve
