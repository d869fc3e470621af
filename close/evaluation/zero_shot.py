"""Classification with the bare encoder, from embeddings alone.

Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from close.vectors.checked import check_widths

__all__ = ["class_embeddings", "class_probabilities"]

Vectors = NDArray[np.float32]


def class_embeddings(prompts: Sequence[Vectors]) -> Vectors:
    """One unit vector a class, the mean of its prompts' unit vectors: C arrays (P_c, D) to (C, D)."""
    means = np.stack([vectors.mean(axis=0) for vectors in prompts])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def class_probabilities(images: Vectors, classes: Vectors, *, scale: float = 100.0) -> Vectors:
    """(N, D) unit images and (C, D) unit classes to (N, C): softmax of `scale` times the cosine.

    Raises:
        DataError: the two are of different dimension.
    """
    check_widths(images, classes)
    logits = scale * (images @ classes.T)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
