"""Any task's official score, from files or from rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from close.data.readers.base import get
from close.data.readers.coco import captions_by_image
from close.data.readers.json_stream import json_items
from close.data.readers.lines import json_lines
from close.data.rows import Row
from close.data.shards import is_rows, open_rows
from close.errors import DataError, MissingError
from close.evaluation.bootstrap import Scores, intervals
from close.evaluation.metrics import METRICS, Inputs, VqaReference, caption_scores, diversity, label_scores, vqa_scores
from close.evaluation.metrics.base import compute
from close.registry import unknown_name

__all__ = ["add_parts", "read_predictions", "read_references", "row_references", "score", "score_files"]

References = Mapping[str, Any]
_FIELDS = {"caption": ("image_id", "caption"), "vqa": ("question_id", "answer")}


def score(
    task: str,
    predictions: Mapping[str, str],
    references: References,
    *,
    tokenizer: str = "auto",
    metrics: Iterable[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
    **more: Any,
) -> Scores:
    """The official score of a kind of task ("caption", "vqa", "entailment", or one that a metric of one's own scores).

    Args:
        references: id to captions, to `VqaReference`, or to the true label.
        tokenizer: of caption scores. metrics: names in `METRICS`; without them, the default ones of the task.
        more: what else `Inputs` holds, for metrics that need it.
    Raises:
        UnknownNameError: no such task or metric. DataError: predictions and references do not fit together.
    """
    if task not in METRICS.kinds:
        raise unknown_name("task", task, METRICS.kinds)
    chosen = list(METRICS.defaults(task) if metrics is None else metrics)
    settings: dict[str, Any] = {"samples": samples, "seed": seed}
    if task not in _WHOLE:
        return caption_scores(
            predictions, references, kind=task, tokenizer=tokenizer, metrics=chosen, **settings, **more
        )
    result = _WHOLE[task](predictions, references, **settings)
    own = [name for name in chosen if name not in METRICS.defaults(task)]
    summed, values, notes = compute(task, own, Inputs(result.ids, predictions, references, **more))
    result.metrics |= summed
    result["ci"] |= intervals(summed, **settings)
    result |= {key: one.value for key, one in summed.items()} | values | ({"notes": notes} if notes else {})
    return result


_WHOLE: dict[str, Callable[..., Scores]] = {"vqa": vqa_scores, "entailment": label_scores}
"""Tasks whose official score demands a prediction for every example, and has parts."""


def score_files(
    predictions: str | Path,
    references: str | Path,
    task: str,
    *,
    tokenizer: str = "auto",
    metrics: Iterable[str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score a file of predictions against a file of references, both in the official formats.

    Captions: COCO results and annotations; the result has `diversity`, and `per_domain` where images have a domain
    (NoCaps; each domain is scored by itself, with its own document frequencies). VQA: official results and annotations.
    Entailment: JSONL with `id` and `label` on both sides. A `.jsonl` of this project is taken too, for both.
    """
    chosen = tuple(METRICS.defaults(task) if metrics is None else metrics)
    settings: dict[str, Any] = {"tokenizer": tokenizer, "metrics": chosen, "samples": samples, "seed": seed}
    said, truth = read_predictions(predictions, task), read_references(references, task)
    result = score(task, said, truth, **settings)
    if task == "caption":
        add_parts(result, said, truth, _domains(Path(references)), **settings)
    return result


def add_parts(
    result: Scores, said: Mapping[str, str], truth: References, domains: Mapping[str, str], **settings: Any
) -> None:
    """Put `diversity`, and `per_domain` where images have a domain, beside a caption score."""
    result["diversity"] = diversity([said[key] for key in result.ids])
    for domain in sorted({domains[key] for key in result.ids if key in domains}):
        ids = [key for key in result.ids if domains.get(key) == domain]
        part = score("caption", {key: said[key] for key in ids}, {key: truth[key] for key in ids}, **settings)
        result.setdefault("per_domain", {})[domain] = dict(part)


def read_predictions(path: str | Path, task: str) -> dict[str, str]:
    """Id to prediction.

    Reads COCO results `[{"image_id", "caption"}]`, VQA results `[{"question_id", "answer"}]`, and JSONL with `id` and
    one of `text`, `label`, `answer`, `caption`.

    Raises:
        MissingError: no such file. DataError: what is wrong at which record; one id has two predictions.
    """
    path = _there(path)
    if task not in METRICS.kinds:
        raise unknown_name("task", task, METRICS.kinds)
    found: dict[str, str] = {}
    for where, record in _records(path, task):
        if path.suffix == ".jsonl" or task == "entailment":
            key, field = "id", next((f for f in ("text", "label", "answer", "caption") if f in record), "text")
        else:
            key, field = _FIELDS.get(task, _FIELDS["caption"])
        name, value = str(get(record, key, (int, str), where)), get(record, field, str, where)
        if name in found:
            raise DataError(f"{where}: a second prediction for {key} {name!r}")
        found[name] = value
    if not found:
        raise DataError(f"{path}: there is no prediction in it")
    return found


def _records(path: Path, task: str) -> Iterable[tuple[str, Any]]:
    by_line = path.suffix == ".jsonl" or task == "entailment"
    for where, record in json_lines(path, "utf-8") if by_line else json_items(path):
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected an object, found {type(record).__name__}")
        yield where, record


def read_references(path: str | Path, task: str) -> dict[str, Any]:
    """Id to what `score` compares with, from an official file or this project's rows (a file, or a folder of shards).

    Raises:
        MissingError: no such file. DataError: what is wrong at which record.
    """
    path = Path(path)
    if is_rows(path) and (task != "entailment" or path.suffix != ".jsonl"):
        return row_references(open_rows(path), task)
    _there(path)
    if task == "entailment":
        return _labels(path)
    if task == "vqa":
        return _questions(path)
    return _captions(path)


def _there(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise MissingError(f"{path}: no such file")
    return Path(path)


def _captions(path: Path) -> dict[str, list[str]]:
    """In the order of the file's images, as the official tool goes through them."""
    captions = captions_by_image(path) or {}
    order = [get(image, "id", (int, str), where) for where, image in json_items(path, "images")]
    return {str(key): captions[key] for key in dict.fromkeys([*order, *captions]) if key in captions}


def _questions(path: Path) -> dict[str, VqaReference]:
    questions = {}
    for where, record in json_items(path, "annotations"):
        answers = tuple(get(answer, "answer", str, where) for answer in get(record, "answers", list, where))
        key = str(get(record, "question_id", (int, str), where))
        if key in questions:
            raise DataError(f"{where}: a second annotation of question {key!r}")
        questions[key] = VqaReference(answers, record.get("answer_type"), record.get("question_type"))
    return questions


def _labels(path: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    for where, record in _records(path, "entailment"):
        key = str(get(record, "id", (int, str), where))
        if key in labels:
            raise DataError(f"{where}: a second label for {key!r}")
        labels[key] = get(record, "label", str, where)
    return labels


def _domains(path: Path) -> dict[str, str]:
    if is_rows(path):
        return {row.id: row.meta["domain"] for row in open_rows(path) if "domain" in row.meta}
    images = (image for _, image in json_items(path, "images"))
    return {str(image["id"]): image["domain"] for image in images if "domain" in image}


def row_references(rows: Iterable[Row], task: str) -> dict[str, Any]:
    """Id to what `score` compares with, from rows: references (or targets, or sources), answers, or the label.

    Raises:
        DataError: a row has nothing to compare with.
    """
    found: dict[str, Any] = {}
    for row in rows:
        if task == "vqa":
            types = (row.meta.get("answer_type"), row.meta.get("question_type"))
            found[row.id] = VqaReference(row.answers or row.target, *types) if row.answers or row.target else None
        elif task == "entailment":
            found[row.id] = row.label or (row.target[0] if row.target else None)
        else:
            found[row.id] = list(row.references or row.target or row.source)
        if not found[row.id]:
            raise DataError(f"row {row.id!r} has nothing to compare a prediction with")
    return found
