"""Nearest rows by dot product: of another table, of the same one. Exact and blockwise at any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from close.vectors.checked import Array, Ints, check_widths, matrices, matrix

__all__ = ["NEIGHBOURS", "Neighbours", "nearest", "nearest_across", "nearest_within"]

TILE = 2048, 8192
NEIGHBOURS = 10


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of the other modality by dot product, best first.

    Attributes:
        images_of_text: (N, k) image indices for every text.
        texts_of_image: (M, k) text indices for every image.
    """

    images_of_text: Ints
    texts_of_image: Ints


class _Nearest:
    """The k best keys of n queries, updated tile by tile; only scores above the k-th best so far are looked at.

    Of equal scores the first keys are kept.
    """

    def __init__(self, n: int, k: int) -> None:
        self.scores = np.full((n, k), -np.inf, np.float32)
        self.keys = np.full((n, k), -1, np.int64)

    def update(self, tile: Array, query: int, key: int, by_column: bool = False) -> None:
        """Take a tile of scores (queries × keys, or keys × queries `by_column`) whose first query and key are given."""
        n, k = tile.shape[by_column], self.scores.shape[1]
        best, keys = self.scores[query : query + n], self.keys[query : query + n]
        least = best[:, -1]
        if len(least) and least[0] == -np.inf and tile.shape[1 - by_column] > k:  # nothing to compare with yet
            least = np.nextafter(np.partition(tile, -k, axis=1 - by_column).take(-k, axis=1 - by_column), -np.inf)
        over = np.flatnonzero(tile > (least if by_column else least[:, None]))
        rows, found = np.divmod(over, tile.shape[1])[:: -1 if by_column else 1]
        values = tile.ravel()[over]
        touched, rows = np.unique(rows, return_inverse=True)
        rows = np.concatenate((rows, np.repeat(np.arange(len(touched)), k)))
        values = np.concatenate((values, best[touched].ravel()))
        found = np.concatenate((found + key, keys[touched].ravel()))
        order = np.lexsort((found, -values, rows))
        starts = np.searchsorted(rows[order], np.arange(len(touched)))
        first = order[starts[:, None] + np.arange(k)]
        best[touched], keys[touched] = values[first], found[first]


def nearest_across(text: Any, image: Any, k: int = NEIGHBOURS) -> Neighbours:
    """The k nearest images of every text and the k nearest texts of every image, by dot product; one product serves both.

    Quadratic in time, linear in memory. k is at most the number of rows on either side.
    """
    text, image = matrices(text, image)
    k = min(k, len(text), len(image))
    images, texts = _Nearest(len(text), k), _Nearest(len(image), k)
    for i in range(0, len(text), TILE[0]):
        for j in range(0, len(image), TILE[1]):
            tile = _scores(text[i : i + TILE[0]], image[j : j + TILE[1]])
            images.update(tile, i, j)
            texts.update(tile, j, i, by_column=True)
    return Neighbours(images.keys, texts.keys)


def nearest_within(x: Any, k: int = NEIGHBOURS) -> Ints:
    """(N, k) nearest other rows of every row by dot product, best first."""
    rows = matrix(x, "rows")
    nearest = _Nearest(len(rows), min(k, len(rows) - 1))
    for i in range(0, len(rows), TILE[0]):
        for j in range(0, len(rows), TILE[1]):
            tile = _scores(rows[i : i + TILE[0]], rows[j : j + TILE[1]])
            own = np.arange(max(i, j), min(i + tile.shape[0], j + tile.shape[1]))
            tile[own - i, own - j] = -np.inf
            nearest.update(tile, i, j)
    return nearest.keys


def nearest(queries: Any, keys: Any, k: int = NEIGHBOURS) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The k best rows of `keys` for each query by dot product, best first: row numbers and products, (N, k) each.

    Equal products come in the order of the keys.

    Args:
        queries, keys: (N, D) and (M, D), arrays or anything that gives rows by slices. k: M where there are no more.
    Raises:
        DataError: the two are of different dimension.
    """
    check_widths(queries, keys)
    best = _Nearest(len(queries), min(k, len(keys)))
    for i in range(0, len(queries), TILE[0]):
        for j in range(0, len(keys), TILE[1]):
            best.update(_scores(queries[i : i + TILE[0]], keys[j : j + TILE[1]]), i, j)
    return best.keys, best.scores


def _scores(x: Array, y: Array) -> Array:
    return np.asarray(x, np.float32) @ np.asarray(y, np.float32).T
