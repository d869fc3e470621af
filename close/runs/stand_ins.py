"""What stands in for images where none belongs to a text: texts, moved to where images lie.

What stands in for an image is the mean of all its captions, carried across the gap. An image is like that mean: it lies between
its captions, as near to one as to another. (One caption is not: shown it, models that were trained with little noise look better
than they are.)

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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.data.rows import Row, RowFile
from close.data.shards import open_rows
from close.encoders import ContrastiveEncoder
from close.io.files import write_text
from close.io.keys import cache_folder
from close.model.configuration import Several
from close.runs.row_vectors import embeddings_of
from close.tasks import Task
from close.vectors.cache import cached_table
from close.vectors.checked import Ints
from close.vectors.open import RowVectors, check_encoder, open_vectors
from close.vectors.table import EmbeddingTable

__all__ = ["AGAINST_MEAN", "STAND_INS", "TYPICAL_GAP", "StandIns", "moved_to_images", "stand_ins", "unpaired_images"]

STAND_INS = {"text": "mean of the captions", "unpaired": "mean of the captions, and another image's wording"}
"""What a record says of its stand-ins, by what they are made of; scores by others are not comparable."""
WORDING = 5 / 6
"""How much of a caption's wording is added."""
TYPICAL_GAP = 0.85
"""Distance of the means, where no image tells it: CLIP's towers end .8 to .9 apart, whatever their size and data."""
AGAINST_MEAN = 0.5
"""Cosine of the gap with the way back along the texts' mean: each modality fills a cone, and the cones point apart (.58 in CLIP
ViT-B/16 on COCO, .48 in the mini world)."""


@dataclass(frozen=True)
class StandIns:
    """What is shown instead of the images of M rows.

    Attributes:
        vectors: (M, D) unit rows, or (M, views, D) of a task about several images. made_of: of `STAND_INS`.
    """

    vectors: NDArray[np.float32]
    made_of: str


def stand_ins(
    told: Sequence[Row],
    task: Task,
    encoder: ContrastiveEncoder | EmbeddingTable,
    image: Any = None,
    *,
    several: Several = "mean",
    seed: int = 0,
) -> StandIns:
    """What is shown instead of images.

    Args:
        told: a row for each image (see `close.evaluation.images.select_rows`), best with several captions.
        encoder: what the captions are embedded with; or a table that holds their vectors.
        image: (N, D) vectors of images that nothing is known of; without it, no image is needed.
        several: what a run makes of rows of several sources; "set" keeps those of a task about several images apart.
        seed: of the directions of the gap, where images don't tell it; and of whose wording is added.
    Raises:
        DataError: a caption is not in the table.
    """
    apart = several == "set" and task.views > 1  # each source tells of an image of its own
    known = _known([replace(row, source=(text,)) for row in told for text in row.source] if apart else told, task)
    table = encoder if isinstance(encoder, EmbeddingTable) else cached_table(known, encoder, "text")
    places = table.locate([text for row in known for text in row.source])
    counts = np.array([len(row.source) for row in known])
    worded = image is not None and (counts > 1).sum() > 1
    own = _worded(table.vectors[places], counts, seed) if worded else None
    scenes = embeddings_of(known, task, table).main(range(len(known))) if own is None else own
    moved = moved_to_images(scenes, table.vectors[list(dict.fromkeys(places.tolist()))], image, seed=seed)
    rows = moved.reshape(len(told), -1, moved.shape[1]) if apart else moved
    return StandIns(rows, STAND_INS["unpaired" if worded else "text"])


def unpaired_images(image: Path, encoder: Any) -> RowVectors:
    """The vectors of a table (or `.npy`) of images that nothing is known of.

    Args:
        encoder: the run's, or what has its `name` and `fingerprint`.
    Raises:
        MissingError: there is no such table. MismatchError: it holds texts, or another encoder made it than the run's.
    """
    found = open_vectors(image, "image")
    check_encoder(
        f"image table {image}", found.encoder, found.fingerprint, "the run", encoder.name, encoder.fingerprint
    )
    return found


def moved_to_images(rows: Any, text: Any, image: Any = None, *, seed: int = 0) -> NDArray[np.float32]:
    """Text vectors moved to where images lie, as unit rows.

    With images, by the least movement that gives the texts the images' mean and covariance (`Transport`). Without any, by a
    shift as long as the gap of CLIP, x + .85·(u·√¾ − ½·μ̂): what is known of its direction is that half of it goes against the
    texts' mean μ̂; the rest u is random, another one for each row.

    Args:
        rows: (P, D) what is moved. text: (N, D) the texts that they are from. image: (M, D) unpaired images.
        seed: of the directions.
    """
    x = np.asarray(rows, np.float32)
    if image is None:
        mean = _unit(np.asarray(text, np.float32).mean(axis=0, keepdims=True))
        free = np.random.default_rng(seed).standard_normal(x.shape).astype(np.float32)
        free = _unit(free - free @ mean.T * mean)
        moved = x + TYPICAL_GAP * (np.sqrt(1 - AGAINST_MEAN**2) * free - AGAINST_MEAN * mean)
    else:
        import torch

        from close.adapters import build_adapter

        adapter = build_adapter("transport", x.shape[1]).fit(text=text, image=image, quiet=True)
        moved = adapter.text(torch.from_numpy(x), None).numpy()
    return _unit(moved)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return unit


def _known(told: Sequence[Row], task: Task) -> RowFile:
    """A data file in the cache whose row i has as its sources all captions of image i, each once; their vectors are averaged."""
    lines = []
    for i, row in enumerate(told):
        told_of = [*row.source, *(row.references if task.metric == "caption" else ())]
        texts = list(dict.fromkeys(told_of))  # references may list the source again
        lines.append(json.dumps({"id": str(i), "source": texts}, ensure_ascii=False) + "\n")
    content = "".join(lines)
    path = cache_folder() / "selection" / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.jsonl"
    if not path.is_file():
        write_text(path, content)
    return open_rows(path)


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
