"""Nearest rows by dot product: of another table, of the same one. Exact and blockwise at any size.

Products are taken tile by tile, and of a tile little more than the largest of every 32 products is looked at: only where that
is above the k-th best so far can there be a neighbour. So a search costs what its matrix product costs, and a little more.
It is on the CPU, also where there is an accelerator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from close.fast.memory import kept_memory
from close.fast.packing import PackedLinear
from close.vectors.blocks import as_tensor
from close.vectors.checked import Ints, check_widths, matrices, matrix

__all__ = ["NEIGHBOURS", "Neighbours", "Without", "nearest", "nearest_across", "nearest_within"]

TILE = 1024, 4096
"""Queries and keys of a tile: 16 MB, which stay in the processor's cache until they are looked at."""
HELD = 32
"""Tiles of queries that are in memory at once; the keys are read once for so many."""
GROUP = 32
NEIGHBOURS = 10

Without = tuple[npt.ArrayLike, npt.ArrayLike]
"""Keys that are no neighbours: (N + 1,) bounds, and the numbers of the keys; query i's are `keys[bounds[i]:bounds[i + 1]]`."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of the other modality by dot product, best first.

    Attributes:
        images_of_text: (N, k) image indices for every text; all M where there are no more.
        texts_of_image: (M, k) text indices for every image; all N where there are no more.
        texts, images: which rows these are of, in their order, where only some were asked.
    """

    images_of_text: Ints
    texts_of_image: Ints
    texts: Ints | None = None
    images: Ints | None = None


class _Nearest:
    """The k best keys of n queries, updated tile by tile, the keys in their order; of equal scores the first keys are kept."""

    def __init__(self, n: int, k: int) -> None:
        self.scores = torch.full((n, k), -torch.inf)
        self.keys = torch.full((n, k), -1, dtype=torch.int64)

    def update(self, tile: Tensor, query: int, key: int) -> None:
        """Take a tile of scores (queries × keys), whose first query and key are given."""
        n, k = len(tile), self.scores.shape[1]
        best, keys = self.scores[query : query + n], self.keys[query : query + n]
        rows, columns = _above(tile, best[:, -1:], k)
        if not len(rows):
            return
        touched, rows_there = torch.unique_consecutive(rows, return_inverse=True)
        place = torch.cat((rows_there, torch.arange(len(touched)).repeat_interleave(k)))
        values = torch.cat((tile[rows, columns], best[touched].ravel()))
        found = torch.cat((columns + key, keys[touched].ravel()))
        order = torch.from_numpy(np.lexsort((found.numpy(), -values.numpy(), place.numpy())))
        starts = torch.searchsorted(place[order], torch.arange(len(touched)))
        first = order[starts[:, None] + torch.arange(k)]
        best[touched], keys[touched] = values[first], found[first]


def _above(tile: Tensor, least: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Places in a tile that may be among the k best, row by row: those above `least`, (n, 1), and few others."""
    width = tile.shape[1] // GROUP
    if width < k:  # too narrow for groups
        rows, columns = torch.nonzero(tile > least, as_tuple=True)
        return rows, columns
    # every width-th column, so that whole lines are reduced
    groups = tile[:, : GROUP * width].unflatten(1, (GROUP, width))
    most = groups.amax(1)
    first = least[:, 0] == -torch.inf
    if first.any():  # the k-th largest of the groups' largest is a bound too: k scores are no smaller
        bound = torch.where(first, most.topk(k).values[:, -1], -torch.inf)[:, None]
        least = torch.maximum(least, bound.nextafter(torch.tensor(-torch.inf)))
    rows, group = torch.nonzero(most > least, as_tuple=True)
    inside, step = torch.nonzero(groups[rows, :, group] > least[rows], as_tuple=True)
    rows, columns = rows[inside], step * width + group[inside]
    if rest := tile.shape[1] - GROUP * width:
        more, last = torch.nonzero(tile[:, -rest:] > least, as_tuple=True)
        rows, columns = torch.cat((rows, more)), torch.cat((columns, last + GROUP * width))
        order = torch.argsort(rows, stable=True)
        rows, columns = rows[order], columns[order]
    return rows, columns


def nearest_across(text: Any, image: Any, k: int = NEIGHBOURS, *, asked: tuple[Ints, Ints] | None = None) -> Neighbours:
    """The k nearest images of every text and the k nearest texts of every image, by dot product; one product serves both.

    Quadratic in time, linear in memory.

    Args:
        asked: rows of `text` and of `image`, if not all look for neighbours.
    """
    text, image = matrices(text, image)
    if asked is not None:
        found = nearest(text[asked[0]], image, k)[0], nearest(image[asked[1]], text, k)[0]
        return Neighbours(*found, *asked)
    images, texts = _Nearest(len(text), min(k, len(image))), _Nearest(len(image), min(k, len(text)))
    for start in range(0, len(text), HELD * TILE[0]):
        for i, j, tile in _tiles(as_tensor(text[start : start + HELD * TILE[0]]), image):
            images.update(tile, start + i, j)
            texts.update(tile.t(), j, start + i)
    return Neighbours(images.keys.numpy(), texts.keys.numpy())


def nearest_within(x: Any, k: int = NEIGHBOURS) -> Ints:
    """(N, k) nearest other rows of every row by dot product, best first."""
    rows = matrix(x, "rows")
    return nearest(rows, rows, min(k, len(rows) - 1), without=(np.arange(len(rows) + 1), np.arange(len(rows))))[0]


def nearest(
    queries: Any,
    keys: Any,
    k: int = NEIGHBOURS,
    *,
    without: Without | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Ints, npt.NDArray[np.float32]]:
    """The k best rows of `keys` for each query by dot product, best first: row numbers and products, (N, k) each.

    Equal products come in the order of the keys.

    Args:
        queries, keys: (N, D) and (M, D), arrays or anything that gives rows by slices. k: M where there are no more.
        without: keys that a query does not find; where fewer than k are left, its last places are −1 and −∞.
        progress: told how many queries are done, and of how many; some 32,000 are done at a time.
    Raises:
        DataError: the two are of different dimension.
    """
    check_widths(queries, keys)
    best, held = _Nearest(len(queries), min(k, len(keys))), HELD * TILE[0]
    for start in range(0, len(queries), held):
        some = as_tensor(queries[start : start + held])
        hidden = _Hidden(without, start, len(some)) if without is not None else None
        for i, j, tile in _tiles(some, keys):
            if hidden:
                hidden.hide(tile, i, j)
            best.update(tile, start + i, j)
        progress(start + len(some), len(queries))
    return best.keys.numpy(), best.scores.numpy()


def _tiles(queries: Tensor, keys: Any) -> Iterator[tuple[int, int, Tensor]]:
    """Products tile by tile, with their first query and key; the keys are read once."""
    with kept_memory():
        for j in range(0, len(keys), TILE[1]):
            block = as_tensor(keys[j : j + TILE[1]])
            many = len(queries) > GROUP  # few do not repay the packing
            times = PackedLinear(block) if many else partial(F.linear, weight=block)
            for i in range(0, len(queries), TILE[0]):
                yield i, j, times(queries[i : i + TILE[0]])


class _Hidden:
    """The keys that the queries from `start` on do not find."""

    def __init__(self, without: Without, start: int, count: int) -> None:
        bounds = np.asarray(without[0], np.int64)[start : start + count + 1]
        keys = np.asarray(without[1], np.int64)[bounds[0] : bounds[-1]]
        order = np.argsort(keys, kind="stable")
        self.keys = torch.from_numpy(keys[order])
        self.queries = torch.from_numpy(np.repeat(np.arange(count), np.diff(bounds))[order])

    def hide(self, tile: Tensor, query: int, key: int) -> None:
        """Give them the least score, in a tile whose first query and key are given."""
        first, last = torch.searchsorted(self.keys, torch.tensor([key, key + tile.shape[1]])).tolist()
        rows, columns = self.queries[first:last] - query, self.keys[first:last] - key
        inside = (rows >= 0) & (rows < len(tile))
        tile[rows[inside], columns[inside]] = -torch.inf
