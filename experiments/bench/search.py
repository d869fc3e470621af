"""Nearest texts of many queries in a large memory on disk: the plain way, ours, faiss where it is there, the products alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from close.fast.packing import PackedLinear
from close.vectors.arrays import write_rows
from close.vectors.neighbours import TILE, nearest
from experiments.bench.parts import Timed, Variants, timed

WIDTH, K = 512, 5
SIZES = {"full": (10_000, 1_000_000, 256), "small": (500, 20_000, 100)}
"""Queries, rows of the memory, and queries that the plain way is given: its rate does not depend on how many."""


def searches(folder: Path, size: str) -> Variants:
    """k = 5 of clustered unit rows in a memory-mapped file; `floor_auto` is its products alone, by the fastest kernel."""
    queries, rows, few = SIZES[size]
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, WIDTH), np.float32)

    def some(count: int) -> Any:
        x = centres[rng.integers(1000, size=count)] + rng.standard_normal((count, WIDTH), np.float32)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    file = folder / "memory.npy"
    write_rows(file, (rows, WIDTH), (some(min(10_000, rows - start)) for start in range(0, rows, 10_000)))
    memory, asked = np.load(file, mmap_mode="r"), some(queries)
    truth: list[Any] = []

    def plainly(number: int) -> Timed:
        return timed(lambda: np.argsort(-(asked[:few] @ memory.T), axis=1)[:, :K])[0], few, {}

    def ours(number: int) -> Timed:
        with OwnMemory() as used:
            seconds, (found, _) = timed(lambda: nearest(asked, memory, K))
        truth[:] = [found]
        return seconds, queries, {"own_mb": used.peak, "gflops": 2e-9 * queries * rows * WIDTH / seconds}

    def products(number: int) -> Timed:
        def multiply() -> None:
            some = torch.from_numpy(asked)
            for start in range(0, rows, TILE[1]):
                layer = PackedLinear(torch.tensor(memory[start : start + TILE[1]]))
                for part in some.split(TILE[0]):
                    layer(part)

        return timed(multiply)[0], queries, {}

    more = _faiss(asked, memory, truth) if find_spec("faiss") else {}
    return {"plain": plainly, "auto": ours, "floor_auto": products, **more}


def _faiss(asked: Any, memory: Any, truth: list[Any]) -> dict[str, Callable[[int], Timed]]:
    """faiss, exact and by lists of neighbours; the index is in memory, and is made before."""
    faiss: Any = import_module("faiss")  # no extra: it is only compared with, where somebody has it
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(np.ascontiguousarray(memory))
    lists = faiss.index_factory(WIDTH, f"IVF{max(16, int(4 * len(memory) ** 0.5))},Flat", faiss.METRIC_INNER_PRODUCT)
    lists.train(np.ascontiguousarray(memory[:: max(1, len(memory) // 100_000)]))
    lists.add(np.ascontiguousarray(memory))
    lists.nprobe = 16

    def by(index: Any) -> Callable[[int], Timed]:
        def run(number: int) -> Timed:
            seconds, (_, found) = timed(lambda: index.search(asked, K))
            same = (found[:, :, None] == truth[0][:, None, :]).any(axis=2).mean()
            return seconds, len(asked), {"recall": float(same)}

        return run

    return {"faiss_exact": by(flat), "faiss_lists": by(lists)}


class OwnMemory:
    """The most memory, in MB, that the process takes in a block beside the pages of mapped files and what it had before."""

    def __enter__(self) -> OwnMemory:
        self._before, self.peak, self._over = _own_mb(), 0, Event()
        self._watch = Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, _own_mb() - self._before)


def _own_mb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]
