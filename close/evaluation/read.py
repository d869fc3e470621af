"""Predictions and references as they lie in files: the official formats of each task, and this project's rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from close.data.readers.base import get
from close.data.readers.coco import captions_by_image
from close.data.readers.json_stream import json_items
from close.data.readers.lines import json_lines
from close.data.rows import Row
from close.data.shards import is_rows, open_rows
from close.errors import DataError, MissingError
from close.evaluation.images import PER_ROW, References, images_of_rows, one_row_an_image, rows_of_images
from close.evaluation.metrics import METRICS, VqaReference
from close.registry import unknown_name

__all__ = [
    "FlaggedReferences",
    "Predictions",
    "RowReferences",
    "read_domains",
    "read_predictions",
    "read_references",
    "row_references",
]

_TYPES = ("answer_type", "question_type")
_FIELDS = {"caption": ("image_id", "caption"), "vqa": ("question_id", "answer")}
_EXPECTED = {
    "vqa": 'a list [{"question_id": 1, "answer": "yes"}, …], or .jsonl with "id" and "text" in each line',
    "entailment": '{"id": "1", "label": "neutral"} in each line',
}
_CAPTIONS = 'a list [{"image_id": 1, "caption": "a dog"}, …], or .jsonl with "id" and "text" in each line'


class Predictions(dict[str, str]):
    """Id to prediction.

    Attributes:
        doubles: how often an id came again with the same text (samplers pad their last batch); each is counted once.
        by_image: whether the ids are of images (`image_id`).
    """

    doubles = 0
    by_image = False


class RowReferences(References):
    """Id of each image's first row to what all rows of the image say.

    Attributes:
        owner: id of each row to that id. groups: names of groups to it, of those that are one image's.
        single: id to what each row says by itself.
    """

    def __init__(self, rows: Iterable[Row], task: str) -> None:
        groups = rows_of_images(rows, task)
        every = list(chain.from_iterable(groups))
        merged = row_references((one_row_an_image(group, task)[0] for group in groups), task)
        super().__init__(merged, images_of_rows(every))
        self.owner = {row.id: group[0].id for group in groups for row in group}
        named = {(row.group, self.owner[row.id]) for row in every if row.group is not None and task not in PER_ROW}
        examples = Counter(group for group, _ in named)
        self.groups = {group: example for group, example in named if examples[group] == 1}
        self.single = row_references(every, task)


class FlaggedReferences(References):
    """Image id to captions, without those that the data set flags, as VizWiz's own tools score.

    Attributes:
        flagged: ids of images whose captions are all flagged; what is said of them is not scored.
    """

    flagged: frozenset[str] = frozenset()


def read_predictions(path: str | Path, task: str) -> Predictions:
    """Id to prediction.

    Reads COCO results `[{"image_id", "caption"}]`, VQA results `[{"question_id", "answer"}]`, and JSONL with `id` and
    one of `text`, `label`, `answer`, `caption`.

    Raises:
        MissingError: no such file. DataError: what is wrong at which record; an id has two predictions that differ.
    """
    path = _there(path)
    if task not in METRICS.kinds:
        raise unknown_name("task", task, METRICS.kinds)
    found = Predictions()
    for where, record in _records(path, task):
        if path.suffix == ".jsonl" or task == "entailment":
            key, field = "id", next((f for f in ("text", "label", "answer", "caption") if f in record), "text")
        else:
            key, field = _FIELDS.get(task, _FIELDS["caption"])
            found.by_image = key == "image_id"
        name, value = str(get(record, key, (int, str), where)), get(record, field, str, where)
        if name not in found:
            found[name] = value
        elif found[name] == value:
            found.doubles += 1
        else:
            raise DataError(
                f"{where}: a second prediction for {key} {name!r}: {value!r}, and before {found[name]!r}; keep one of them"
            )
    if not found:
        raise DataError(f"{path}: there is no prediction in it; expected {_EXPECTED.get(task, _CAPTIONS)}")
    return found


def _records(path: Path, task: str) -> Iterator[tuple[str, Any]]:
    records = json_lines(path, "utf-8") if path.suffix == ".jsonl" or task == "entailment" else json_items(path)
    expected = f"expected {_EXPECTED.get(task, _CAPTIONS)}"
    try:
        first = list(next(records, ()))
    except DataError as error:
        raise DataError(f"{error}; {expected}") from None
    for where, record in chain([first] if first else [], records):
        if not isinstance(record, dict):
            raise DataError(f"{where}: found {type(record).__name__}, not an object; {expected}")
        yield where, record


def read_references(path: str | Path, task: str) -> References:
    """Id to what `score` compares with, from an official file or this project's rows (a file, or a folder of shards).

    Rows of one image are one example (`RowReferences`).

    Raises:
        MissingError: no such file. DataError: what is wrong at which record.
    """
    path = Path(path)
    if is_rows(path) and (task != "entailment" or path.suffix != ".jsonl"):
        return RowReferences(open_rows(path), task)
    _there(path)
    if task == "entailment":
        return _labelled(path)
    if task == "vqa":
        return _questions(path)
    return _captions(path)


def _there(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise MissingError(f"{path}: no such file" + (" (it is a folder)" if Path(path).is_dir() else ""))
    return Path(path)


def _captions(path: Path) -> FlaggedReferences:
    """In the order of the file's images, as the official tool goes through them."""
    captions = captions_by_image(path) or {}
    order = [get(image, "id", (int, str), where) for where, image in json_items(path, "images")]
    found = FlaggedReferences(
        {str(key): captions[key] for key in dict.fromkeys([*order, *captions]) if captions.get(key)}
    )
    found.flagged = frozenset(str(key) for key, texts in captions.items() if not texts)
    return found


def _questions(path: Path) -> References:
    questions, images = dict[str, VqaReference](), dict[str, Hashable]()
    for where, record in json_items(path, "annotations"):
        answers = tuple(get(answer, "answer", str, where) for answer in get(record, "answers", list, where))
        key = str(get(record, "question_id", (int, str), where))
        if key in questions:
            raise DataError(f"{where}: a second annotation of question {key!r}")
        answer_type, question_type = (None if record.get(k) is None else get(record, k, str, where) for k in _TYPES)
        questions[key] = VqaReference(answers, answer_type, question_type)
        if record.get("image_id") is not None:
            images[key] = get(record, "image_id", (int, str), where)
    return References(questions, images)


def _labelled(path: Path) -> References:
    """This project's rows, with `label` or `target`, an id or none; or the official format, an `id` and a `label` a line."""
    try:
        rows = open_rows(path)
        found = RowReferences(rows, "entailment")
    except DataError:
        _, first = next(_records(path, "entailment"), ("", {}))
        if first.keys() & {"source", "image"} and not first.keys() >= {"id", "label"}:  # rows, and nothing else
            raise
        return _labels(path)
    return found if len(found.single) == len(rows) else _labels(path)


def _labels(path: Path) -> References:
    labels, images = dict[str, str](), dict[str, Hashable]()
    for where, record in _records(path, "entailment"):
        key = str(get(record, "id", (int, str), where))
        if key in labels:
            raise DataError(f"{where}: a second label for {key!r}")
        labels[key] = get(record, "label", str, where)
        if shown := record.get("image") or record.get("group"):
            images[key] = str(shown)
    return References(labels, images)


def read_domains(path: Path) -> dict[str, str]:
    """Image id to its domain, of images that have one (NoCaps)."""
    if is_rows(path):
        return {row.id: str(row.meta["domain"]) for row in open_rows(path) if row.meta.get("domain") is not None}
    images = ((where, image) for where, image in json_items(path, "images") if image.get("domain") is not None)
    return {str(get(image, "id", (int, str), where)): get(image, "domain", str, where) for where, image in images}


def row_references(rows: Iterable[Row], task: str) -> References:
    """Id to what `score` compares with, from rows: references (or targets, or sources), answers, or the label.

    Raises:
        DataError: a row has nothing to compare with.
    """
    found, rows = dict[str, Any](), list(rows)
    for row in rows:
        if task == "vqa":
            found[row.id] = _question(row)
        elif task == "entailment":
            found[row.id] = row.label or (row.target[0] if row.target else None)
        else:
            found[row.id] = list(row.references or row.target or row.source)
        if not found[row.id]:
            wanted = {"vqa": "'answers' or 'target'", "entailment": "'label' or 'target'"}.get(
                task, "'references' or 'target'"
            )
            raise DataError(f"row {row.id!r} has nothing to compare a prediction with: no {wanted}")
    return References(found, images_of_rows(rows))


def _question(row: Row) -> VqaReference | None:
    """What annotators said; or what is learnt, of which any is right, unless it is as many said it."""
    answer_type, question_type = (None if (kind := row.meta.get(key)) is None else str(kind) for key in _TYPES)
    either = not row.answers and 1 < len(row.target) == len(set(row.target))
    answers = row.answers or row.target
    return VqaReference(answers, answer_type, question_type, either) if answers else None
