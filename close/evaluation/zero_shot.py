"""Classification and retrieval with the bare encoder, from embeddings alone.

Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from close.errors import DataError

__all__ = ["class_embeddings", "class_probabilities", "nearest"]

Vectors = NDArray[np.float32]
_BLOCK = 1024  # queries at once, so that the table of similarities stays small


def class_embeddings(prompts: Sequence[Vectors]) -> Vectors:
    """One unit vector a class, the mean of its prompts' unit vectors: C arrays (P_c, D) to (C, D)."""
    means = np.stack([vectors.mean(axis=0) for vectors in prompts])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def class_probabilities(images: Vectors, classes: Vectors, *, scale: float = 100.0) -> Vectors:
    """(N, D) unit images and (C, D) unit classes to (N, C): softmax of `scale` times the cosine.

    Raises:
        DataError: the two are of different dimension.
    """
    _same_width(images, classes)
    logits = scale * (images @ classes.T)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def nearest(queries: Vectors, gallery: Vectors, k: int = 10) -> tuple[NDArray[np.int64], Vectors]:
    """The k most similar rows of the gallery for each query, best first: indices and cosines, (N, k) each.

    Equal cosines come in the order of the gallery.

    Raises:
        DataError: the two are of different dimension.
    """
    _same_width(queries, gallery)
    k = min(k, len(gallery))
    indices, cosines = [], []
    for start in range(0, len(queries), _BLOCK):
        table = queries[start : start + _BLOCK] @ gallery.T
        order = np.argsort(-table, axis=1, kind="stable")[:, :k]
        indices.append(order)
        cosines.append(np.take_along_axis(table, order, axis=1))
    return np.concatenate(indices), np.concatenate(cosines)


def _same_width(a: Vectors, b: Vectors) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise DataError(f"embeddings of shapes {a.shape} and {b.shape} can't be compared; expected (N, D) and (M, D)")
