"""Choosing among runs (adapter, noise, epochs) without a single image.

A run is shown what stands in for images, through the same door: the mean of all captions of an image, carried across the gap
(`close.gap.advice.pseudo_images`). An image is like that mean: it lies between its captions, as near to one as to another. (One
caption is not: shown it, models that were trained with little noise look better than they are.) What the run says is scored
against the image's captions.

Without images each mean is shifted by a gap as long as CLIP's. With unpaired images, the means are carried to those images' mean
and covariance. But an image also holds what none of its captions tells, and a mean of captions holds no such thing: shown it
alone, models that lean on everything they are shown look better than they are. So what sets one caption of *another* image
apart from that image's others is added first, which is as large, and as irrelevant; five sixths of it, as it was tried
(experiments/gap), where the mean of all six captions was taken off one of them. Where no two images have several captions
(questions have one each) there is no wording to add: the mean of the captions is shown, and the record says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from close.data.rows import Row, RowFile
from close.data.shards import open_rows
from close.evaluation.images import select_rows
from close.evaluation.metrics import METRICS
from close.evaluation.scores import score_rows
from close.gap.advice.pseudo_images import moved_to_images
from close.io.files import write_json, write_text
from close.io.keys import cache_folder, file_key
from close.runs.evaluate import kept_scores, searched_alike
from close.runs.pipeline import CloseCaptioner, load
from close.runs.row_vectors import embeddings_of
from close.tasks import Task
from close.vectors.cache import cached_table
from close.vectors.checked import Ints
from close.vectors.open import check_encoder, open_vectors

__all__ = ["best", "saved_selection", "selection_score"]

STAND_INS = {"text": "mean of the captions", "unpaired": "mean of the captions, and another image's wording"}
"""What a record says of its stand-ins, by what they are made of; scores by others are not comparable."""
WORDING = 5 / 6
"""How much of a caption's wording is added."""


def _known(told: Sequence[Row], task: Task) -> RowFile:
    """A data file in the cache whose row i has as its sources all captions of image i; their vectors are averaged."""
    lines = []
    for i, row in enumerate(told):
        texts = [*row.source, *(row.references if task.metric == "caption" else ())]
        lines.append(json.dumps({"id": str(i), "source": texts}, ensure_ascii=False) + "\n")
    content = "".join(lines)
    path = cache_folder() / "selection" / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.jsonl"
    if not path.is_file():
        write_text(path, content)
    return open_rows(path)


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
        run: a run's folder, or a loaded one. data: validation rows (see `select_rows`), best with several captions an image.
        image: a table (or `.npy`) of images that nothing is known of; without it, no image is needed.
        seed: of the directions of the gap, where images don't tell it.
    Returns:
        `scores` as `evaluate` gives them, beside data, hash, number of rows, `image`, what tells its state (`image_key`), and
            what the stand-ins are (`stand_in`).
    Raises:
        DataError: rows that tell nothing of an image but their source. MismatchError: the images are of another encoder.
    """
    captioner = run if isinstance(run, CloseCaptioner) else load(run)
    rows, task = open_rows(data), captioner.task
    told = select_rows(rows, task)
    known = _known(told, task)
    table = cached_table(known, captioner.encoder, "text")
    counts = np.array([len(row.source) for row in known])
    several = image is not None and (counts > 1).sum() > 1
    scenes = _worded(table[:], counts, seed) if several else embeddings_of(known, task, table).main(range(len(told)))
    images, image_key = None, _key(image)
    if image is not None:
        images = open_vectors(image)
        own = captioner.encoder
        check_encoder(f"image table {image}", images.encoder, images.fingerprint, "the run", own.name, own.fingerprint)
    shown = torch.from_numpy(moved_to_images(scenes, table.vectors[:], images, seed=seed))
    said: dict[int, str] = {}
    order = sorted(range(len(told)), key=lambda i: len(task.context(told[i])))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        outputs = captioner.generate(shown[batch], [task.context(told[i]) for i in batch], **generation)
        said |= {i: text for i, (text, _) in zip(batch, outputs, strict=True)}
    scores, _ = score_rows(task, told, [said[i] for i in range(len(told))], tokenizer="python")
    return {
        "data": str(data),
        "data_sha256": rows.sha256,
        "rows": len(told),
        "image": None if image is None else str(image),
        "image_key": image_key,
        "seed": seed,
        "stand_in": STAND_INS["unpaired" if several else "text"],
        "generation": captioner.model.generation_config.to_diff_dict() | generation,
        "primary": METRICS.primary(task.metric),
        "scores": scores,
    }


def _key(image: str | Path | None) -> str | None:
    """What tells whether a table is still what it was."""
    return None if image is None else f"{file_key(Path(image)):016x}"


def _worded(rows: NDArray[np.float32], counts: Ints, seed: int) -> NDArray[np.float32]:
    """(M, D) the mean of each image's texts, and `WORDING` of what sets one text of another image apart from its others.

    Args:
        rows: (N, D) unit rows, image by image. counts: (M,) texts of each image; two images have several.
    """
    rng = np.random.default_rng(seed)
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(rows, starts, axis=0) / counts[:, None]
    order = rng.permutation(len(counts))
    place = np.maximum.accumulate(np.where(counts[order] > 1, np.arange(len(order)), -1))
    other = np.empty_like(order)
    # the last before it, in a circle, with several
    other[order] = order[np.roll(np.where(place < 0, place[-1], place), 1)]
    one = rows[starts[other] + rng.integers(counts[other])]
    share = WORDING * counts[other] / (counts[other] - 1)  # its distance from the mean, which it is part of, is smaller
    worded: NDArray[np.float32] = (means + share[:, None] * (one - means[other])).astype(np.float32)
    return worded


def saved_selection(run: Path, data: Path, *, image: Path | None = None) -> dict[str, Any]:
    """`selection_score` of a run's folder, kept in it, and made only once for the same rows, images and generation."""
    kind = "unpaired" if image else "text"
    place = run / "evaluations" / f"{data.stem}-{kind}-selection" / "scores.json"
    found = kept_scores(place)
    wanted = (open_rows(data).sha256, None if image is None else str(image), _key(image))
    kept = (found.get("data_sha256"), found.get("image"), found.get("image_key"))
    made_of = {STAND_INS["text"], STAND_INS[kind]}  # the rows say which
    if kept == wanted and found.get("stand_in") in made_of and searched_alike(found.get("generation"), run):
        return found
    found = selection_score(run, data, image=image)
    write_json(place, found)
    return found


def best(scores: Mapping[str, Sequence[float]]) -> str:
    """The name whose mean over seeds is highest; the first of equals."""
    return max(scores, key=lambda name: sum(scores[name]) / len(scores[name]))
