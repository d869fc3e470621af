"""Retrieval with the bare encoder: pictures for a text, texts for a picture, and R@k where pairs are known.

Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision", section 3.1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from close.data.shards import open_rows
from close.encoders import ContrastiveEncoder
from close.errors import DataError, firsts
from close.evaluation.bootstrap import intervals, mean_score
from close.io.progress import progress
from close.vectors.build import find_images
from close.vectors.cache import cached_images, cached_table
from close.vectors.neighbours import nearest

__all__ = ["first_hits", "pictures_for", "recall", "texts_for"]

Vectors = NDArray[np.float32]
RANKS = (1, 5, 10)
_BLOCK = 1024
_log = logging.getLogger(__name__)


def pictures_for(
    queries: Sequence[str],
    data: str | Path,
    encoder: ContrastiveEncoder,
    k: int = 10,
    *,
    failed: list[str] | None = None,
) -> list[dict[str, Any]]:
    """The k pictures of `data` (a folder, a picture, or rows with an `image`) that fit each text best.

    Args:
        failed: filled with the reason of each picture that can't be read, and is left out; without it, they are told.
    Returns:
        Per text `query` and `found`: `item`, its `file` and `cosine`, best first. A picture that several rows share counts once.
    Raises:
        MissingError, DataError: no such data; no picture in it, or none that can be read.
    """
    images = find_images(data, encoder.item_suffixes)
    with progress("embedding", "images") as update:
        table = cached_images(images, encoder, progress=update)
    _, first = np.unique(table.index, return_index=True)
    files, ids = dict(images), [table.ids[int(row)] for row in first]
    found = nearest(encoder.encode_text(list(queries)).numpy(), np.asarray(table.vectors), k)
    reasons = [failure["reason"] for failure in table.failures]
    if failed is not None:
        failed += reasons
    elif reasons:
        _log.warning("%d pictures could not be read and are left out: %s", len(reasons), firsts(reasons))
    return _listed(list(queries), [{"item": name, "file": str(files[name])} for name in ids], *found)


def texts_for(
    queries: Sequence[str | Path], data: str | Path, encoder: ContrastiveEncoder, k: int = 10
) -> list[dict[str, Any]]:
    """The k texts of `data` (rows' sources; .txt, .csv or .jsonl) that fit each picture best.

    Returns:
        Per picture `query` and `found`: `text` and `cosine`, best first. Equal texts count once.
    Raises:
        MissingError, DataError: no such data; a picture that can't be read.
    """
    rows = open_rows(data)
    with progress(f"embedding {rows.path.name}", "texts") as update:
        table = cached_table(rows, encoder, "text", progress=update)
    texts = list(dict.fromkeys(text for row in rows for text in row.source))
    gallery = np.asarray(table.vectors[table.locate(texts)])
    found = nearest(encoder.encode_image(list(queries)).numpy(), gallery, k)
    return _listed([str(query) for query in queries], [{"text": text} for text in texts], *found)


def recall(data: str | Path, encoder: ContrastiveEncoder) -> dict[str, Any]:
    """R@1, R@5, R@10 both ways over rows that have an `image` and a `source`; all texts and all pictures are candidates.

    A text asks for its own picture, a picture for any of its texts; rows of one picture file belong together.

    Returns:
        `texts`, `images` (how many), and for `text_to_image` and `image_to_text`: `r@1`, `r@5`, `r@10` (0–100), the median
        rank `median`, and `ci` with 95 % intervals over queries.
    Raises:
        MissingError, DataError: no such data, rows without an image or source, or an unreadable picture.
    """
    rows = open_rows(data)
    for row in rows:
        if len(row.images) != 1 or not row.source:
            raise DataError(f"{rows.path}: row {row.id!r} needs one 'image' and a 'source' to be a pair")
    with progress(f"embedding {rows.path.name}") as update:
        images = cached_table(rows, encoder, "image", progress=update)
    with progress(f"embedding {rows.path.name}", "texts") as update:
        texts = cached_table(rows, encoder, "text", progress=update)
    owners = np.repeat(images.index, [len(row.source) for row in rows])
    text, image = np.asarray(texts[:]), np.asarray(images.vectors)
    places = np.arange(len(image))
    return {
        "texts": len(text),
        "images": len(image),
        "text_to_image": _recalls(first_hits(text, image, owners, places), np.asarray(owners).tolist()),
        "image_to_text": _recalls(first_hits(image, text, places, owners)),
    }


def first_hits(queries: Vectors, gallery: Vectors, of_query: ArrayLike, of_gallery: ArrayLike) -> NDArray[np.int64]:
    """(N,) rank, from 1, of the first right candidate of each query: one with the same owner.

    Equal cosines come in the order of the gallery.

    Args:
        queries: (N, D) unit rows. gallery: (M, D). of_query: (N,) owners. of_gallery: (M,) owners.
    """
    wanted, owners = np.asarray(of_query), np.asarray(of_gallery)
    order, ranks = np.arange(len(gallery)), []
    for start in range(0, len(queries), _BLOCK):
        table = queries[start : start + _BLOCK] @ gallery.T
        right = np.where(owners == wanted[start : start + _BLOCK, None], table, -np.inf)
        place = right.argmax(axis=1)
        best = np.take_along_axis(table, place[:, None], axis=1)
        before = (table > best) | ((table == best) & (order < place[:, None]))
        ranks.append(before.sum(axis=1) + 1)
    return np.concatenate(ranks)


def _recalls(ranks: NDArray[np.int64], images: list[int] | None = None) -> dict[str, Any]:
    scores = {f"r@{k}": mean_score(100.0 * (ranks <= k)) for k in RANKS}
    values: dict[str, Any] = {name: score.value for name, score in scores.items()}
    return values | {"median": float(np.median(ranks)), "ci": intervals(scores, clusters=images)}


def _listed(
    queries: Sequence[str], gallery: Sequence[dict[str, str]], indices: NDArray[np.int64], cosines: Vectors
) -> list[dict[str, Any]]:
    return [
        {
            "query": query,
            "found": [gallery[i] | {"cosine": cosine} for i, cosine in zip(places, values, strict=True)],
        }
        for query, places, values in zip(queries, indices.tolist(), cosines.tolist(), strict=True)
    ]
