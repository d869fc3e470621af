"""Phrases that a model writes again and again."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Self

import numpy as np
import numpy.typing as npt

from data_gen.filters.base import FILTERS, Candidate, Filter, Setting, pair
from data_gen.text.words import digest

__all__ = ["FrequentNgrams"]


@FILTERS.register("ngrams")
class FrequentNgrams(Filter):
    """CLOSE's filter: each n-gram of 4 to 9 words that occurred `often` times adds count/`scale` to the chance to go.

    Counts are of accepted rows, kept in a count–min sketch of 16 MB: they can only be too high, and are exact until
    hundreds of thousands of different n-grams have come.
    """

    usage = "ngrams=50/800"
    _BITS = 20
    _ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)

    def __init__(self, often: int, scale: float, seed: int) -> None:
        self._often, self._scale, self._seed = often, scale, seed
        self._counts = np.zeros((4, 1 << self._BITS), np.uint32)

    @classmethod
    def from_option(cls, value: str, setting: Setting) -> Self:
        often, scale = pair(cls, value or "50/800", "/")
        if not scale:
            raise cls.wrong(value)
        return cls(often, scale, setting.seed)

    def _cells(self, found: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        grams = {" ".join(found[i : i + n]) for n in range(4, 10) for i in range(len(found) - n + 1)}
        digests = np.array([digest(gram) for gram in sorted(grams)], np.uint64)
        columns = (digests[None, :] * self._ODD[:, None]) >> np.uint64(64 - self._BITS)
        return np.arange(4)[:, None], columns.astype(np.int64)

    def rejects(self, candidate: Candidate) -> bool:
        rows, columns = self._cells(candidate.words)
        counts = (
            self._counts[rows, columns].min(axis=0, initial=np.iinfo(np.uint32).max) if columns.size else columns[0]
        )
        chance = float(counts[counts >= self._often].sum()) / self._scale
        return chance > 0 and Random(f"{self._seed}:ngrams:{candidate.id}").random() < chance

    def add(self, candidate: Candidate) -> None:
        rows, columns = self._cells(candidate.words)
        np.add.at(self._counts, (np.broadcast_to(rows, columns.shape), columns), 1)
