"""A saved run, scored on a data file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from close.adapters import Modality
from close.cache import cached_table
from close.data import embeddings_of
from close.errors import RecipeError
from close.evaluation.bootstrap import Scores
from close.evaluation.examples import pick_examples
from close.evaluation.report import write_evaluation_page
from close.evaluation.scores import PRIMARY, row_references, score
from close.files import write_json, write_text
from close.pipeline import CloseCaptioner, load
from close.progress import progress
from close.rows import Row, RowFile
from close.runs import versions
from close.tasks import Task

METRICS = ("bleu", "rouge_l", "cider")
"""Caption scores that need no Java."""

__all__ = ["evaluate", "predict", "score_rows"]


def evaluate(
    run: str | Path | CloseCaptioner,
    data: str | Path,
    *,
    modality: Modality = "image",
    task: str | None = None,
    batch_size: int = 64,
    tokenizer: str = "auto",
    metrics: Sequence[str] = METRICS,
    limit: int | None = None,
    folder: str | Path | None = None,
    device: str | None = None,
    precision: str = "fp32",
    encoder: str | None = None,
    **generation: Any,
) -> dict[str, Any]:
    """Predict every row, score the predictions, save both.

    Args:
        run: a run's folder, or a loaded one (then `folder` says where to save).
        data: rows to score on; for `modality="image"` each has an image, for "text" a source.
        limit: only the first rows.
        tokenizer, metrics: of caption scores: auto, java or python; of bleu, rouge_l, cider, meteor, spice.
        folder: where predictions and scores go; `RUN/evaluations/DATA-MODALITY` without it.
        generation: overrides of the run's generation settings.
    Returns:
        What `scores.json` says: scores (0–100) with intervals, settings, data hash, versions.
    Raises:
        RecipeError: unknown modality. DataError: rows lack what the task needs. UnknownNameError: unknown task.
    """
    if modality not in ("image", "text"):
        raise RecipeError(f"modality is 'image' or 'text', not {modality!r}")
    rows = RowFile(data)
    captioner = (
        run if isinstance(run, CloseCaptioner) else load(run, device=device, precision=precision, encoder=encoder)
    )
    kind = captioner.use_task(task).task if task else captioner.task
    count = min(limit or len(rows), len(rows))
    outputs = predict(captioner, rows, kind, modality, count, batch_size, **generation)
    chosen = rows[:count]
    scores, examples = score_rows(kind, chosen, [text for text, _ in outputs], tokenizer=tokenizer, metrics=metrics)
    result = {
        "run": captioner.name,
        "data": str(data),
        "data_sha256": rows.sha256,
        "rows": count,
        "limit": limit,
        "task": kind.name,
        "modality": modality,
        "generation": captioner.model.generation_config.to_diff_dict() | generation,
        "scores": scores,
        "examples": examples,
        "versions": versions(),
    }
    place = (
        Path(folder) if folder is not None else Path(captioner.name) / "evaluations" / f"{Path(data).stem}-{modality}"
    )
    result["folder"] = str(place)
    write_text(
        place / "predictions.jsonl", "".join(_line(row, *said) for row, said in zip(chosen, outputs, strict=True))
    )
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
    **generation: Any,
) -> list[tuple[str, float]]:
    """Text and score of the first `count` rows; rows of like context length share a batch."""
    with progress(f"embedding {rows.path.name}", f"{modality}s") as update:
        embeds = embeddings_of(rows, task, cached_table(rows, captioner.encoder, modality, progress=update))
    contexts = [task.context(rows[index]) for index in range(count)]
    order = sorted(range(count), key=lambda index: len(contexts[index]))
    said: dict[int, tuple[str, float]] = {}
    with progress(f"predicting {rows.path.name}", "rows") as update:
        for start in range(0, count, batch_size):
            batch = order[start : start + batch_size]
            texts = captioner.generate(
                embeds.batch(batch), [contexts[i] for i in batch], modality=modality, **generation
            )
            said |= dict(zip(batch, texts, strict=True))
            update(len(said), count)
    return [said[index] for index in range(count)]


def score_rows(
    task: Task, rows: Sequence[Row], texts: Sequence[str], *, tokenizer: str = "auto", metrics: Sequence[str] = METRICS
) -> tuple[Scores, dict[str, Any]]:
    """The task's official scores of one text a row, and examples of the best, the worst and any."""
    predictions = {row.id: text for row, text in zip(rows, texts, strict=True)}
    references = row_references(rows, task.metric)
    scores = score(task.metric, predictions, references, tokenizer=tokenizer, metrics=metrics)
    if task.metric == "caption" and all("facts" in row.meta for row in rows):
        scores |= _against_truth(rows, texts)
    examples = pick_examples(scores, PRIMARY[task.metric], {row.id: row for row in rows}, predictions)
    return scores, examples


def _against_truth(rows: Sequence[Row], texts: Sequence[str]) -> dict[str, float]:
    """What only the mini world knows: which claims are true."""
    from close.mini import attribute_accuracy

    truth = attribute_accuracy(texts, [row.meta["facts"] for row in rows])
    return {
        "attribute_accuracy": truth.accuracy,
        "attribute_recall": truth.recall,
        "hallucination": truth.hallucination,
        "claims": truth.claims,
    }


def _line(row: Row, text: str, score: float) -> str:
    said = {"id": row.id, "text": text, "score": round(score, 6), "image": str(row.image) if row.image else None}
    return json.dumps(said, ensure_ascii=False) + "\n"
