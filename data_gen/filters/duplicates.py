"""Texts that are there already: the same, much alike, or copied from the prompt."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from data_gen.filters.base import FILTERS, Candidate, Filter, Setting, number
from data_gen.text.words import digest, same_key, same_text
from data_gen.verbs import Shot

__all__ = ["Copied", "Duplicate", "NearDuplicate"]


class Duplicate(Filter):
    """The same words as an accepted row. Remembers 8 bytes a row (about 100 MB per million in Python's set)."""

    name = "duplicate"

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def rejects(self, candidate: Candidate) -> bool:
        return digest(same_key(candidate.key)) in self._seen

    def alike(self, candidate: Candidate, other: Candidate) -> bool:
        return same_key(candidate.key) == same_key(other.key)

    def add(self, candidate: Candidate) -> None:
        self._seen.add(digest(same_key(candidate.key)))


class Copied(Filter):
    """The same words as a shot, or as what was given."""

    name = "copied"

    def __init__(self, shots: Iterable[Shot]) -> None:
        self._shots = {same_text(" ".join(record.values())) for shot in shots for record in shot.records}
        self._shots |= {same_text(value) for shot in shots for record in shot.records for value in record.values()}

    def rejects(self, candidate: Candidate) -> bool:
        text = same_text(candidate.text)
        return text in self._shots or text == same_text(candidate.given)


@FILTERS.register("near")
class NearDuplicate(Filter):
    """Too alike an accepted row: estimated Jaccard similarity of their words and word pairs, by MinHash.

    64 permutations; rows that share one of 16 bands of 4 are compared by the whole signature. Signatures and tables
    take between 256 and 512 bytes a row, whatever its length. A place in a table holds the latest row only, so that a
    pair which meets in a single band may be missed.
    """

    usage = "near=0.7"
    _BANDS, _ROWS = 16, 4

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        draw = np.random.default_rng(20221)
        hashes = self._BANDS * self._ROWS
        self._a = draw.integers(0, 1 << 63, hashes, np.uint64) * np.uint64(2) + np.uint64(1)
        self._b = draw.integers(0, 1 << 63, hashes, np.uint64)
        self._signatures = np.zeros((1024, hashes), np.uint16)
        self._tables = np.full((self._BANDS, 4096), -1, np.int32)
        self._size = 0

    @classmethod
    def from_option(cls, value: str, setting: Setting) -> Self:
        return cls(number(cls, value or "0.7", 0, 1))

    def _signature(self, found: Sequence[str]) -> npt.NDArray[np.uint16]:
        shingles = {*found, *(f"{a} {b}" for a, b in itertools.pairwise(found))}
        crc = np.array([zlib.crc32(shingle.encode()) for shingle in shingles], np.uint64)
        permuted = (crc[:, None] * self._a + self._b) >> np.uint64(32)
        signature: npt.NDArray[np.uint16] = (permuted.min(axis=0) & np.uint64(0xFFFF)).astype(np.uint16)
        return signature

    def _slots(self, signatures: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
        """(N, 64) signatures → (N, 16) places in the tables."""
        bands = np.ascontiguousarray(signatures).view(np.uint64).reshape(len(signatures), self._BANDS)
        mixed = bands * np.uint64(0x9E3779B97F4A7C15)
        return ((mixed >> np.uint64(20)) & np.uint64(self._tables.shape[1] - 1)).astype(np.int64)

    def rejects(self, candidate: Candidate) -> bool:
        if not candidate.words:
            return False
        signature = self._signature(candidate.words)
        rows = self._tables[np.arange(self._BANDS), self._slots(signature[None])[0]]
        alike = (self._signatures[rows[rows >= 0]] == signature).mean(axis=1)
        return bool((alike >= self._threshold).any())

    def alike(self, candidate: Candidate, other: Candidate) -> bool:
        if not (candidate.words and other.words):
            return False
        same = self._signature(candidate.words) == self._signature(other.words)
        return bool(same.mean() >= self._threshold)

    def add(self, candidate: Candidate) -> None:
        if not candidate.words:
            return
        if self._size == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.zeros_like(self._signatures)])
        signature = self._signature(candidate.words)
        self._signatures[self._size] = signature
        self._size += 1
        bands = np.arange(self._BANDS)
        if 2 * self._size > self._tables.shape[1]:
            self._tables = np.full((self._BANDS, 2 * self._tables.shape[1]), -1, np.int32)
            slots = self._slots(self._signatures[: self._size])
            for band in bands:
                self._tables[band, slots[:, band]] = np.arange(self._size)
        self._tables[bands, self._slots(signature[None])[0]] = self._size - 1
