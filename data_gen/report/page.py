"""The drift report: how far what was written is from what was wanted, as HTML and JSON."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from data_gen.errors import OutputError
from data_gen.filters.plain import Candidate, Duplicate, NearDuplicate, same_text
from data_gen.prompts.keywords import count_words
from data_gen.report.charts import bars, lines
from data_gen.report.divergence import WordUse, jensen_shannon, smoothed_kl, word_use
from data_gen.text.files import read_rows, read_texts, words

__all__ = ["drift", "write_report"]

_KEYS = ("context", "target", "source", "caption", "text")  # of questions and hypotheses: themselves, not their answers
_CHECKPOINTS = 24
_SAMPLES = 24


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
    return {**result, "entropy": float(-(shares * np.log2(shares)).sum())}


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
    sentences = sum(max(1, len(re.findall(r"[.!?]+(?:\s|$)", text))) for text in texts)
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


def _cost(file: Path) -> dict[str, Any]:
    """Tokens and rejections, from the journal and the rejected rows where they are there."""
    journal, rejected = Path(f"{file}.journal"), Path(f"{file}.rejected.jsonl")
    if not journal.exists():
        return {}
    answers = [row for _, row in read_rows(journal) if "tokens_in" in row]
    reasons = Counter(row["reason"].split(":")[0] for _, row in read_rows(rejected)) if rejected.exists() else Counter()
    return {
        "requests": len(answers),
        "tokens_in": sum(row["tokens_in"] for row in answers),
        "tokens_out": sum(row["tokens_out"] for row in answers),
        "rejected": dict(reasons.most_common()),
    }


def _samples(file: Path, texts: Sequence[str]) -> list[dict[str, str]]:
    rows = [row for _, row in read_rows(file)] if file.suffix == ".jsonl" else [{"target": text} for text in texts]
    chosen = sorted(Random(0).sample(range(len(rows)), min(_SAMPLES, len(rows))))
    parts = ("source", "context", "target")
    samples = []
    for row in (rows[i] for i in chosen):
        meta = row.get("meta")
        keywords = meta.get("keywords", []) if isinstance(meta, dict) else []
        samples.append({"keywords": ", ".join(keywords), **{part: str(row[part]) for part in parts if part in row}})
    return samples


def _length_shares(texts: Sequence[str], longest: int = 60) -> list[tuple[float, float]]:
    lengths = np.minimum([len(words(text)) for text in texts], longest)
    return list(enumerate(np.bincount(lengths) / len(texts)))


def _rank_shares(texts: Sequence[str]) -> list[tuple[float, float]]:
    frequencies = np.sort(np.array(list(count_words(texts).values()), np.float64))[::-1]
    shares = np.log10(frequencies / frequencies.sum())
    return list(zip(np.log10(np.arange(1, len(shares) + 1)), shares, strict=True))


def _pictures(figures: dict[str, Any], written: Sequence[str], target: Sequence[str]) -> dict[str, str]:
    both = {"written": written, "target": target}
    lengths, ranks = ({name: of(texts) for name, texts in both.items()} for of in (_length_shares, _rank_shares))
    over = [(use["word"], use["ratio"]) for use in figures["overused"][:15]]
    under = [(use["word"], 1 / use["ratio"]) for use in figures["underused"][:15]]
    return {
        "lengths": lines(lengths, "words in a text", "share of texts"),
        "ranks": lines(ranks, "log₁₀ rank of a word", "log₁₀ share"),
        "kl": lines({"written": figures["kl_over_the_run"]}, "texts", "KL(target ‖ written), nats", zero=True),
        "overused": bars(over, "× as often as in the target"),
        "underused": bars(under, "× as seldom as in the target"),
    }


def _figure(value: object) -> str:
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}") if isinstance(value, float) else str(value)


def write_report(file: Path, target: Path, out: Path) -> Path:
    """Write the report on `file` to `out` (HTML), and its figures beside it with the ending `.json`.

    Returns:
        `out`.

    Raises:
        InputError: a file is unreadable or has no words.
        OutputError: the report can't be written.
    """
    import jinja2

    written, wanted = ([text.text for text in read_texts(path, _KEYS)] for path in (file, target))
    figures = {"file": file.name, "target": target.name, **drift(written, wanted), "cost": _cost(file)}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_gen.report", "."), autoescape=True, trim_blocks=True
    )
    environment.filters["figure"] = _figure
    html = environment.get_template("report.html.j2").render(
        **figures,
        samples=_samples(file, written),
        pictures=_pictures(figures, written, wanted),
        columns=WordUse._fields,
    )
    for path, text in (
        (out.with_suffix(".json"), json.dumps(figures, ensure_ascii=False, indent=1) + "\n"),
        (out, html),
    ):
        partial = path.with_name(path.name + ".partial")
        try:
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise OutputError(f"can't write {path}: {error.strerror}") from None
    return out
