"""Choosing among runs (adapter, noise, epochs) without a single image.

A run is shown what stands in for images, through the same door: validation texts whose vectors are carried across the gap
(`close.gap.standins`). What it says is scored against the *other* captions of the same image. A caption is about as far from the
other captions of its image as the image is, so what helps here helps there. With unpaired images the texts are carried to
those images' mean and covariance; without, each is shifted by a gap as long as CLIP's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from close.adapters import open_rows
from close.adapters.storage import check_fingerprint
from close.cache import cached_table
from close.data import embeddings_of
from close.errors import DataError
from close.evaluation.runs import METRICS, score_rows
from close.evaluation.scores import PRIMARY
from close.files import read_json, write_json
from close.gap.standins import across
from close.pipeline import CloseCaptioner, load
from close.rows import Row, RowFile
from close.tasks import Task

__all__ = ["best", "saved_selection", "select_rows", "selection_score"]


def select_rows(rows: RowFile, task: Task) -> tuple[list[int], list[Row]]:
    """Positions of the rows whose source stands in for an image, and these rows with what is to be said of it.

    A row with references (or answers, or a label) is taken as it is: its source is none of them. Of captions that share a `group`
    the first stands in, and the others are its references.

    Raises:
        DataError: captions without references, and no two of one group.
    """
    if task.metric != "caption" or any(row.references for row in rows):
        found = [(i, row) for i, row in enumerate(rows) if row.source and (task.metric != "caption" or row.references)]
        return [i for i, _ in found], [row for _, row in found]
    groups: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.group is not None:
            groups[row.group].append(i)
    first, told = [], []
    for members in groups.values():
        if len(members) > 1:
            first.append(members[0])
            told.append(replace(rows[members[0]], references=tuple(rows[i].source[0] for i in members[1:])))
    if not first:
        raise DataError(
            f"{rows.path}: to select by text, rows need 'references', or captions of one image a common 'group'; neither is there"
        )
    return first, told


def selection_score(
    run: str | Path | CloseCaptioner,
    data: str | Path,
    *,
    image: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 64,
    **generation: Any,
) -> dict[str, Any]:
    """Score a run on texts that stand in for images.

    Args:
        run: a run's folder, or a loaded one. data: validation rows (see `select_rows`).
        image: a table (or `.npy`) of images that nothing is known of; without it, no image is needed.
        seed: of the directions of the gap, where images don't tell it.
    Returns:
        `scores` as `evaluate` gives them, beside data, hash, number of rows and `image`.
    Raises:
        DataError: rows that tell nothing of an image but their source. MismatchError: the images are of another encoder.
    """
    captioner = run if isinstance(run, CloseCaptioner) else load(run)
    rows, task = RowFile(data), captioner.task
    places, told = select_rows(rows, task)
    vectors = embeddings_of(rows, task, cached_table(rows, captioner.encoder, "text"))
    images = None
    if image is not None:
        images = open_rows(image)
        check_fingerprint(f"image table {image}", images.encoder, images.fingerprint, captioner.encoder.fingerprint)
    everything = vectors.batch(range(len(vectors))).numpy()
    shown = torch.from_numpy(across(everything[places], everything, images, seed=seed))
    said: dict[int, str] = {}
    order = sorted(range(len(told)), key=lambda i: len(task.context(told[i])))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        outputs = captioner.generate(shown[batch], [task.context(told[i]) for i in batch], **generation)
        said |= {i: text for i, (text, _) in zip(batch, outputs, strict=True)}
    scores, _ = score_rows(task, told, [said[i] for i in range(len(told))], tokenizer="python", metrics=METRICS)
    return {
        "data": str(data),
        "data_sha256": rows.sha256,
        "rows": len(told),
        "image": None if image is None else str(image),
        "seed": seed,
        "primary": PRIMARY[task.metric],
        "scores": scores,
    }


def saved_selection(run: Path, data: Path, *, image: Path | None = None) -> dict[str, Any]:
    """`selection_score` of a run's folder, kept in it, and made only once for the same rows."""
    place = run / "evaluations" / f"{data.stem}-{'unpaired' if image else 'text'}-selection" / "scores.json"
    if place.is_file():
        found: dict[str, Any] = read_json(place)
        if (found["data_sha256"], found["image"]) == (RowFile(data).sha256, None if image is None else str(image)):
            return found
    found = selection_score(run, data, image=image)
    write_json(place, found)
    return found


def best(scores: Mapping[str, Sequence[float]]) -> str:
    """The name whose mean over seeds is highest; the first of equals."""
    return max(scores, key=lambda name: sum(scores[name]) / len(scores[name]))
