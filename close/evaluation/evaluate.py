"""A saved run, scored on a data file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from close.data.rows import Modality, Row, RowFile
from close.data.shards import open_rows
from close.encoders import ContrastiveEncoder
from close.errors import MismatchError, RecipeError
from close.evaluation.bootstrap import Scores
from close.evaluation.examples import pick_examples
from close.evaluation.metrics import METRICS
from close.evaluation.page import write_evaluation_page
from close.evaluation.scores import add_parts, row_references, score
from close.io.files import write_json, write_text
from close.io.progress import progress
from close.io.versions import versions
from close.runs.examples import embeddings_of
from close.runs.folder import RECIPE_FILE, RUN_FILE, open_run
from close.runs.pipeline import Answer, CloseCaptioner, Decode, load
from close.runs.recipe import Recipe
from close.tasks import Task, answer_vocabulary
from close.vectors.cache import cached_table

TOP_ANSWERS = 3000
SHOWN = 10
"""Probabilities kept with a prediction."""

__all__ = ["Decoding", "evaluate", "predict", "score_rows"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are found; see `CloseCaptioner.answer`.

    Attributes:
        how: tree, score or free; without it, tree where the task has a closed set of answers, else free.
        normalise: with "score", by the labels' lengths.
        labels: the closed set; without it, the task's own.
    """

    how: Decode | None = None
    normalise: bool = False
    labels: tuple[str, ...] | None = None

    def describe(self, task: Task, answers: Any) -> dict[str, Any]:
        """For the record of an evaluation; `answers` as it was given."""
        return {
            "how": self.how or ("tree" if task.labels or self.labels else "free"),
            "normalise": self.normalise,
            "answers": str(answers) if isinstance(answers, (str, Path)) else None,
            "labels": len(self.labels or task.labels),
        }


def evaluate(
    run: str | Path | CloseCaptioner,
    data: str | Path,
    *,
    modality: Modality = "image",
    task: str | None = None,
    batch_size: int = 64,
    tokenizer: str = "auto",
    metrics: Sequence[str] | None = None,
    decode: Decode | None = None,
    normalise: bool = False,
    answers: str | Path | Sequence[str] | None = None,
    top_answers: int | None = None,
    limit: int | None = None,
    folder: str | Path | None = None,
    device: str | None = None,
    precision: str = "auto",
    encoder: str | None = None,
    **generation: Any,
) -> dict[str, Any]:
    """Predict every row, score the predictions, save both.

    Args:
        run: a run's folder, or a loaded one (then `folder` says where to save).
        data: rows to score on; for `modality="image"` each has an image, for "text" a source.
        task: what to do; without it, the run's task, and where it learnt several, the one that the rows name.
        tokenizer: of caption scores: auto, java or python.
        metrics: names in `METRICS`; without them, the task's default ones that need no Java.
        decode: "tree", "score" or "free" for answers from a closed set. normalise: with "score", by their lengths.
        answers: the closed set: the answers themselves, or a file for `answer_vocabulary`. Without it, the task's labels;
            for VQA decoded by "tree" or "score", the commonest targets that the run was trained on.
        top_answers: how many of a file's answers; of training targets, 3,000 without it.
        limit: only the first rows.
        folder: where predictions and scores go; `RUN/evaluations/DATA-MODALITY` without it (and `-DECODE` where that is given).
        generation: overrides of the run's generation settings.
    Returns:
        What `scores.json` says: scores (0–100) with intervals, settings, data hashes, seeds, versions.
    Raises:
        RecipeError: unknown modality, settings that do not go together, or several tasks and none chosen.
        DataError: rows lack what the task needs. UnknownNameError: unknown task.
    """
    if modality not in ("image", "text"):
        raise RecipeError(f"modality is 'image' or 'text', not {modality!r}")
    rows = open_rows(data)
    captioner = (
        run if isinstance(run, CloseCaptioner) else load(run, device=device, precision=precision, encoder=encoder)
    )
    kind = captioner.use_task(task or _task_of(rows, captioner)).task
    decoding = _decoding(captioner, kind, decode, normalise, answers, top_answers)
    count = min(limit or len(rows), len(rows))
    outputs = predict(captioner, rows, kind, modality, count, batch_size, decoding, **generation)
    chosen, texts = rows[:count], [answer.text for answer in outputs]
    more = {"encoder": captioner.encoder, "image_vectors": partial(_image_vectors, captioner.encoder, rows)}
    scores, examples = score_rows(kind, chosen, texts, tokenizer=tokenizer, metrics=metrics, **more)
    facts: dict[str, Any] = {"data": data, "count": count, "limit": limit, "modality": modality, "answers": answers}
    result = _settings(captioner, rows, decoding, generation, **facts)
    result |= {"scores": scores, "examples": examples, "versions": versions()}
    name = "-".join([Path(data).stem, modality, *([decode] if decode else [])])
    place = Path(folder) if folder is not None else Path(captioner.name) / "evaluations" / name
    return _saved(result, place, zip(chosen, outputs, strict=True))


def _settings(
    captioner: CloseCaptioner,
    rows: RowFile,
    decoding: Decoding,
    generation: Mapping[str, Any],
    *,
    data: str | Path,
    count: int,
    limit: int | None,
    modality: Modality,
    answers: Any,
) -> dict[str, Any]:
    """What decides an evaluation's numbers."""
    return {
        "run": captioner.name,
        "data": str(data),
        "data_sha256": rows.sha256,
        "rows": count,
        "limit": limit,
        "task": captioner.task.name,
        "modality": modality,
        "generation": captioner.model.generation_config.to_diff_dict() | generation,
        "decoding": decoding.describe(captioner.task, answers),
        "trained": _trained(captioner.name),
        "bootstrap": {"samples": 1000, "seed": 0},
    }


def _saved(result: dict[str, Any], place: Path, answers: Iterable[tuple[Row, Answer]]) -> dict[str, Any]:
    """Predictions, scores and page in their folder."""
    result["folder"] = str(place)
    write_text(place / "predictions.jsonl", "".join(_line(row, answer) for row, answer in answers))
    write_json(place / "scores.json", result)
    write_evaluation_page(result, place / "report.html")
    return result


def predict(
    captioner: CloseCaptioner,
    rows: RowFile,
    task: Task,
    modality: Modality,
    count: int,
    batch_size: int = 64,
    decoding: Decoding = Decoding(),
    **generation: Any,
) -> list[Answer]:
    """What the model says of the first `count` rows; rows of like context length share a batch."""
    with progress(f"embedding {rows.path.name}", f"{modality}s") as update:
        embeds = embeddings_of(rows, task, cached_table(rows, captioner.encoder, modality, progress=update))
    contexts = [task.context(rows[index]) for index in range(count)]
    order = sorted(range(count), key=lambda index: len(contexts[index]))
    said: dict[int, Answer] = {}
    with progress(f"predicting {rows.path.name}", "rows") as update:
        for start in range(0, count, batch_size):
            batch = order[start : start + batch_size]
            found = captioner.answer(
                embeds.batch(batch),
                [contexts[i] for i in batch],
                modality=modality,
                labels=decoding.labels,
                decode=decoding.how,
                normalise=decoding.normalise,
                **generation,
            )
            said |= dict(zip(batch, found, strict=True))
            update(len(said), count)
    return [said[index] for index in range(count)]


def score_rows(
    task: Task,
    rows: Sequence[Row],
    texts: Sequence[str],
    *,
    tokenizer: str = "auto",
    metrics: Sequence[str] | None = None,
    **more: Any,
) -> tuple[Scores, dict[str, Any]]:
    """The task's official scores of one text a row, and examples of the best, the worst and any.

    Args:
        metrics: without them, the default ones that need no Java. more: the run's `encoder` and `image_vectors`, see `Inputs`.
    """
    predictions = {row.id: text for row, text in zip(rows, texts, strict=True)}
    references, by_id = row_references(rows, task.metric), {row.id: row for row in rows}
    chosen = METRICS.defaults(task.metric, java=False) if metrics is None else metrics
    settings: dict[str, Any] = {"tokenizer": tokenizer, "metrics": chosen}
    scores = score(task.metric, predictions, references, rows=by_id, **settings, **more)
    if task.metric == "caption":
        domains = {row.id: row.meta["domain"] for row in rows if "domain" in row.meta}
        add_parts(scores, predictions, references, domains, **settings, **more)
    shown = next((key for key in (METRICS.primary(task.metric), *scores.metrics) if key in scores.metrics), None)
    return scores, pick_examples(scores, shown, by_id, predictions) if shown else {}


def _task_of(rows: RowFile, captioner: CloseCaptioner) -> str:
    """The run's task; of several, the one that all rows name."""
    if not captioner.instructs:
        return captioner.tasks[0]
    named = {row.task for row in rows}
    chosen = named.pop() if len(named) == 1 else None
    if chosen not in captioner.tasks:
        raise RecipeError(
            f"{captioner.name} learnt {', '.join(captioner.tasks)}, and the rows of {rows.path} do not all name one of "
            "them ('task'); say which with --task"
        )
    return chosen


def _decoding(
    captioner: CloseCaptioner,
    task: Task,
    decode: Decode | None,
    normalise: bool,
    answers: str | Path | Sequence[str] | None,
    top: int | None,
) -> Decoding:
    """The closed set that an evaluation chooses from, if any."""
    if answers is not None and decode == "free":
        raise RecipeError("decoding 'free' takes no closed set of answers; leave them out, or decode by tree or score")
    if isinstance(answers, (str, Path)):
        return Decoding(decode, normalise, tuple(answer_vocabulary(answers, task, top)))
    if answers is not None:
        return Decoding(decode, normalise, tuple(answers))
    if task.metric == "vqa" and decode in ("tree", "score"):
        return Decoding(decode, normalise, _learnt_answers(captioner.name, task, top or TOP_ANSWERS))
    if top is not None:
        raise RecipeError("the number of answers goes with a file of answers, or with VQA decoded by tree or score")
    return Decoding(decode, normalise)


def _learnt_answers(run: str, task: Task, top: int) -> tuple[str, ...]:
    """The commonest targets of the data that the run was trained on, which must still be there unchanged."""
    trained = open_run(run)["train"]
    recipe = Recipe.model_validate(yaml.safe_load((Path(run) / RECIPE_FILE).read_text(encoding="utf-8")))
    for part, facts in zip(recipe.parts(), trained, strict=True):
        if part.task == task.name:
            columns = recipe.data.columns
            if not Path(part.train).exists() or open_rows(part.train, columns).sha256 != facts["sha256"]:
                raise MismatchError(f"{part.train}, which {run} was trained on, has changed or gone; give the answers")
            return tuple(answer_vocabulary(part.train, task, top, columns))
    raise RecipeError(f"{run} was not trained on {task.name!r}, so it has no answers of its own; give them")


def _trained(run: str) -> dict[str, Any] | None:
    """Seed, data hashes and versions of the training, where the run lies in a folder."""
    if not (Path(run) / RUN_FILE).is_file():
        return None
    info = open_run(run)
    return {key: info.get(key) for key in ("seed", "encoder", "fingerprint", "tasks", "train", "steps", "versions")}


def _image_vectors(encoder: ContrastiveEncoder, rows: RowFile, ids: Sequence[str]) -> NDArray[np.float32]:
    """(N, D) unit vectors of the rows' images, by the rows' ids."""
    table = cached_table(rows, encoder, "image")
    place = {name: index for index, name in enumerate(table.ids)}
    return np.asarray(table[[place[name] for name in ids]])


def _line(row: Row, said: Answer) -> str:
    values: dict[str, Any] = {"id": row.id, "text": said.text, "score": round(said.score, 6)}
    if said.probabilities is not None:
        values["probabilities"] = {label: round(share, 6) for label, share in list(said.probabilities.items())[:SHOWN]}
    return json.dumps(values | {"image": str(row.image) if row.image else None}, ensure_ascii=False) + "\n"
