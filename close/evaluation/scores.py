"""Any task's official score, from files or from rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from close.data.rows import Row
from close.evaluation.bootstrap import Scores, intervals
from close.evaluation.examples import pick_examples
from close.evaluation.images import part_of, pictured
from close.evaluation.match import Matched, Missing, match
from close.evaluation.metrics import METRICS, Inputs, caption_scores, label_scores, vqa_scores
from close.evaluation.metrics.base import compute
from close.evaluation.read import RowReferences, read_domains, read_predictions, read_references, row_references
from close.registry import unknown_name
from close.tasks import Task

__all__ = ["add_parts", "score", "score_files", "score_rows"]

References = Mapping[str, Any]


def score(
    task: str,
    predictions: Mapping[str, str],
    references: References,
    *,
    missing: Missing | None = None,
    tokenizer: str = "auto",
    metrics: str | Iterable[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    **more: Any,
) -> Scores:
    """The official score of a kind of task ("caption", "vqa", "entailment", or one that a metric of one's own scores).

    Args:
        references: id to captions, to `VqaReference`, or to the true label.
        missing: "zero", "skip" or "error", where the two sides lack ids of the other (`close.evaluation.match`); without it as
            the official script: captions skip references without a prediction, and nothing else may be missing.
        tokenizer: of caption scores. metrics: names in `METRICS`; without them, the default ones of the task.
        more: what else `Inputs` holds, for metrics that need it.
    Raises:
        UnknownNameError: no such task or metric. DataError: predictions and references do not fit together.
    """
    if task not in METRICS.kinds:
        raise unknown_name("task", task, METRICS.kinds)
    both = match(task, predictions, references, missing)
    return _scored(task, both, tokenizer=tokenizer, metrics=metrics, samples=samples, seed=seed, **more)


def _scored(
    task: str, both: Matched, *, tokenizer: str, metrics: Iterable[str] | None, samples: int, seed: int, **more: Any
) -> Scores:
    """The score of what was brought together, with what was done to that end."""
    chosen = list(METRICS.chosen(task, metrics))
    settings: dict[str, Any] = {"samples": samples, "seed": seed}
    if task in _WHOLE:
        result = _whole(task, both, chosen, settings, more)
    else:
        caption: dict[str, Any] = {"kind": task, "tokenizer": tokenizer, "metrics": chosen, **settings, **more}
        result = caption_scores(both.predictions, both.references, **caption)
    if both.notes:
        result["notes"] = both.notes | result.get("notes", {})
    result |= both.counts
    return result


def _whole(task: str, both: Matched, chosen: list[str], settings: Mapping[str, Any], more: Mapping[str, Any]) -> Scores:
    predictions, references = both.predictions, both.references
    result = _WHOLE[task](predictions, references, **settings)
    own = [name for name in chosen if name not in METRICS.defaults(task)]
    summed, values, notes = compute(task, own, Inputs(result.ids, both.texts, references, **more))
    result.metrics |= summed
    result["ci"] |= intervals(summed, clusters=pictured(result.ids, references), **settings)
    result |= {key: one.value for key, one in summed.items()} | values
    if notes := result.get("notes", {}) | notes:
        result["notes"] = notes
    return result


_WHOLE: dict[str, Callable[..., Scores]] = {"vqa": vqa_scores, "entailment": label_scores}
"""Tasks whose official score demands a prediction for every example, and has parts."""


def score_files(
    predictions: str | Path,
    references: str | Path,
    task: str,
    *,
    missing: Missing | None = None,
    tokenizer: str = "auto",
    metrics: str | Iterable[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score a file of predictions against a file of references, both in the official formats.

    Captions: COCO results and annotations; the result has `per_domain` where images have a domain
    (NoCaps; each domain is scored by itself, with its own document frequencies). VQA: official results and annotations.
    Entailment: JSONL with `id` and `label` on both sides. A `.jsonl` of this project is taken too, for both;
    rows of one image are one example. `missing` is as in `score`.
    """
    chosen = METRICS.chosen(task, metrics)
    settings: dict[str, Any] = {"tokenizer": tokenizer, "metrics": chosen, "samples": samples, "seed": seed}
    said, truth = read_predictions(predictions, task), read_references(references, task)
    both = match(task, said, truth, missing)
    result = _scored(task, both, **settings)
    if task == "caption":
        domains = read_domains(Path(references))
        if isinstance(truth, RowReferences):  # any row of an image may say its domain
            domains = {truth.owner[key]: domain for key, domain in reversed(domains.items())} | domains
        add_parts(result, both.predictions, both.references, domains, **settings)
    return result


def score_rows(
    task: Task,
    rows: Sequence[Row],
    texts: Sequence[str] | Mapping[str, str],
    *,
    missing: Missing | None = None,
    tokenizer: str = "auto",
    metrics: str | Sequence[str] | None = None,
    notes: Mapping[str, str] | None = None,
    **more: Any,
) -> tuple[Scores, dict[str, Any]]:
    """The task's official scores of one text a row, and examples of the best, the worst and any.

    Args:
        texts: one a row, or by the rows' ids. missing: as in `score`.
            notes: on the examples, to be kept with the scores.
        metrics: without them, the default ones that need no Java. more: the run's `encoder` and `image_vectors`, see `Inputs`.
    """
    said = texts if isinstance(texts, Mapping) else {row.id: text for row, text in zip(rows, texts, strict=True)}
    references, by_id = row_references(rows, task.metric), {row.id: row for row in rows}
    chosen = METRICS.chosen(task.metric, metrics, java=False)
    settings: dict[str, Any] = {"tokenizer": tokenizer, "metrics": chosen}
    scores = score(task.metric, said, references, missing=missing, rows=by_id, **settings, **more)
    if notes:
        scores["notes"] = {**notes, **scores.get("notes", {})}
    predictions = {key: said.get(key, "") for key in scores.ids}
    if task.metric == "caption":
        domains = {row.id: str(row.meta["domain"]) for row in rows if row.meta.get("domain") is not None}
        add_parts(scores, predictions, references, domains, rows=by_id, **settings, **more)
    shown = METRICS.shown(task.metric, scores.metrics)
    return scores, pick_examples(scores, shown, by_id, predictions) if shown else {}


def add_parts(
    result: Scores, said: Mapping[str, str], truth: References, domains: Mapping[str, str], **settings: Any
) -> None:
    """Put `per_domain` beside a caption score, where images have a domain; all are counted by the tokenizer of the whole."""
    settings |= {"tokenizer": result["tokenizer"]}
    for domain in sorted({domains[key] for key in result.ids if key in domains}):
        ids = [key for key in result.ids if domains.get(key) == domain]
        part = score("caption", {key: said[key] for key in ids}, part_of(truth, ids), **settings)
        result.setdefault("per_domain", {})[domain] = dict(part)
