"""The drift report: how far what was written is from what was wanted, as HTML and JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from data_gen.errors import InputError
from data_gen.report.charts import bars, lines
from data_gen.report.divergence import WordUse
from data_gen.report.drift import drift
from data_gen.text.files import parse_json, read_rows, read_texts, whole
from data_gen.text.words import count_words, words

__all__ = ["write_report"]

_KEYS = ("context", "target", "source", "caption", "text")  # of questions and hypotheses: themselves, not their answers
_SAMPLES = 24


def _beside(file: Path) -> tuple[Path, Path]:
    """The journal and the rejected rows of an output, where they are there."""
    return Path(f"{file}.journal"), Path(f"{file}.rejected.jsonl")


def _cost(file: Path) -> dict[str, Any]:
    """Tokens and rejections; `lost`: of tries without an answer, about."""
    journal, rejected = _beside(file)
    if not journal.exists():
        return {}
    took = {"requests": 0, "tokens_in": 0, "tokens_out": 0, "lost": 0, "lost_in": 0, "lost_out": 0}
    for row in (row for row in _whole_rows(journal) if "index" in row or "lost" in row):
        lost = row["lost"] if type(row.get("lost")) is int else 0
        took["requests"] += "index" in row
        took["lost"] += lost
        for name in ("in", "out"):
            tokens = row.get(f"tokens_{name}")
            took[f"lost_{name}" if lost else f"tokens_{name}"] += tokens if type(tokens) is int else 0
    refused = _whole_rows(rejected) if rejected.exists() else []
    reasons = Counter(str(row.get("reason")).split(":")[0] for row in refused)
    metas = (row.get("meta") for row in _whole_rows(file))
    mended = sum(bool(meta.get("mended")) for meta in metas if isinstance(meta, dict))
    return {**took, "mended_rows": mended, "rejected": dict(reasons.most_common())}


def _whole_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, without lines that a kill, or something worse, left broken."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with suppress(InputError):
                row = parse_json(line, str(path))
                if isinstance(row, dict):
                    yield row


def _samples(file: Path, texts: Sequence[str]) -> list[dict[str, str]]:
    def rows() -> Iterator[dict[str, Any]]:
        if file.suffix.lower() == ".jsonl":
            return (row for _, row in read_rows(file))
        return ({"target": text} for text in texts)

    number = sum(1 for _ in rows())
    chosen = set(Random(0).sample(range(number), min(_SAMPLES, number)))
    parts = ("source", "context", "target")
    samples = []
    for row in (row for i, row in enumerate(rows()) if i in chosen):
        meta = row.get("meta")
        keywords = meta.get("keywords") if isinstance(meta, dict) else None
        asked = ", ".join(map(str, keywords)) if isinstance(keywords, list) else ""
        samples.append({"keywords": asked, **{part: str(row[part]) for part in parts if row.get(part) is not None}})
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


def write_report(file: Path, target: Path, out: Path) -> dict[str, Any]:
    """Write the report on `file` to `out` (HTML), and its figures beside it with the ending `.json`.

    Returns:
        The figures: those of `drift`, and what the run took.

    Raises:
        InputError: a file is unreadable or has no words, or `out` ends in `.json`, or would replace what is read.
        OutputError: the report can't be written.
    """
    import jinja2

    if out.suffix == ".json":
        raise InputError(f"--out {out}: expected an HTML file's name; the figures go beside it, as .json")
    pages = out.with_suffix(".json"), out
    read = {os.path.realpath(path) for path in (file, target, *_beside(file))}
    for path in pages:
        if os.path.realpath(path) in read:
            raise InputError(f"--out {out}: the report reads {path}, and would replace it; give another --out")
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
    for path, text in zip(pages, (json.dumps(figures, ensure_ascii=False, indent=1) + "\n", html), strict=True):
        with whole(path) as partial:
            partial.write_bytes(text.encode("utf-8", "backslashreplace"))
    return figures
