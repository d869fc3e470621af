"""Nearest rows among very many, looked for in a part of them: faiss's inverted lists, as many as it takes.

Exact search is quadratic: every text of three million against all others takes six hours on two cores. Rows are put into lists
around centres instead, and of each query only the nearest lists are searched; how many, is found by trial against exact search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from close.errors import MissingError
from close.vectors.checked import Ints, check_widths
from close.vectors.neighbours import Without, nearest

__all__ = ["check_lists", "nearest_in_lists"]

_log = logging.getLogger(__name__)

RECALL = 0.98
"""Share of the exact neighbours that the lists searched have to hold."""
TRIED, BLOCK, LEARNT = 500, 4096, 40
"""Queries of the trial; queries and rows taken at a time; rows that a list's centre is learnt from."""


def check_lists() -> None:
    """Make sure that faiss is here.

    Raises:
        MissingError: it is not; says how to get it.
    """
    if find_spec("faiss") is None:
        raise MissingError("searching in lists needs faiss: pip install 'close-toolkit[faiss]'")


def nearest_in_lists(
    queries: Any,
    keys: Any,
    k: int,
    *,
    without: Without | None = None,
    recall: float = RECALL,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Ints:
    """(N, k) row numbers of the k best of `keys` for each query by dot product, best first, nearly all of them found.

    The keys are held in memory once more, as float32.

    Args:
        queries, keys: (N, D) and (M, D), arrays or anything that gives rows by slices.
        without: keys that a query does not find; where fewer than k are left, its last places are −1.
        recall: share of the exact neighbours, its own left out, that is to be found; measured on 500 queries, and told.
    Raises:
        MissingError: faiss is not installed. DataError: the two are of different dimension.
    """
    check_lists()
    check_widths(queries, keys)
    own, index = _Own(without, len(queries)), _filled(keys)
    index.nprobe = _enough(index, queries, keys, k, own, recall)
    found = np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(queries), BLOCK):
        some = _rows(queries, start, start + BLOCK)
        mine = [own[start + row] for row in range(len(some))]
        for row, near in enumerate(_searched(index, some, k, mine)):
            kept = near
            if len(near) < k:
                kept = nearest(some[row : row + 1], keys, k, without=_together([mine[row]]))[0][0]
            found[start + row, : len(kept)] = kept
        progress(start + len(some), len(queries))
    return found


class _Own:
    """The keys that each query does not find."""

    def __init__(self, without: Without | None, count: int) -> None:
        given = without or (np.zeros(count + 1, np.int64), np.empty(0, np.int64))
        self.bounds, self.keys = (np.asarray(part, np.int64) for part in given)

    def __getitem__(self, query: int) -> Ints:
        return self.keys[self.bounds[query] : self.bounds[query + 1]]


def _together(own: Iterable[Ints]) -> Without:
    """As `nearest` takes them."""
    several = [*own]
    return np.cumsum([0, *map(len, several)]), np.concatenate(several)


def _filled(keys: Any) -> Any:
    """All keys in lists, four for each root of their number."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    count, dim = keys.shape
    lists = max(1, min(int(4 * count**0.5), count // 8))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    learnt = min(count, LEARNT * lists)
    chosen = np.arange(learnt) * count // learnt
    index.cp.min_points_per_centroid = 1
    index.train(_picked(keys, chosen))
    for start in range(0, count, BLOCK):
        index.add(_rows(keys, start, start + BLOCK))
    return index


def _enough(index: Any, queries: Any, keys: Any, k: int, own: _Own, recall: float) -> int:
    """The number of lists that hold the wanted share of the exact neighbours of some queries, their own left out."""
    tried = np.unique(np.linspace(0, len(queries) - 1, TRIED).astype(np.int64))
    some = _picked(queries, tried)
    exact, _ = nearest(some, keys, k, without=_together(own[row] for row in tried))
    probed = 8
    while True:
        index.nprobe = min(probed, index.nlist)
        found = _searched(index, some, k, [own[row] for row in tried])
        same = sum(int(np.isin(ours, there).sum()) for there, ours in zip(exact, found, strict=True))
        held = same / max(1, int((exact >= 0).sum()))
        if held >= recall or index.nprobe == index.nlist:
            break
        probed *= 2
    _log.info("searching %d of %d lists finds %.1f %% of the nearest %d", index.nprobe, index.nlist, 100 * held, k)
    return int(index.nprobe)


def _searched(index: Any, queries: npt.NDArray[np.float32], k: int, own: Sequence[Ints]) -> list[Ints]:
    """Up to k of each query, but for its own; fewer where its lists hold no more."""
    _, places = index.search(queries, min(k + max(map(len, own)), index.ntotal))
    return [near[(near >= 0) & ~np.isin(near, mine)][:k] for near, mine in zip(places, own, strict=True)]


def _picked(source: Any, rows: Ints) -> npt.NDArray[np.float32]:
    return np.concatenate([_rows(source, row, row + 1) for row in rows])


def _rows(source: Any, start: int, end: int) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(np.asarray(source[int(start) : int(end)], dtype=np.float32))
