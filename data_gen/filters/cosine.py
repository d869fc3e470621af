"""Texts that are about something else, by word vectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from data_gen.errors import InputError
from data_gen.filters.base import FILTERS, Candidate, Filter, Setting, number
from data_gen.text.files import read_lines
from data_gen.text.words import words

__all__ = ["Cosine"]


@FILTERS.register("cosine")
class Cosine(Filter):
    """The mean word vector of the text lies too far from that of the keywords (or of the text that was given)."""

    usage = "cosine=FILE:0.3"

    def __init__(self, vectors: dict[str, npt.NDArray[np.float32]], threshold: float) -> None:
        self._vectors, self._threshold = vectors, threshold

    @classmethod
    def from_option(cls, value: str, setting: Setting) -> Self:
        path, _, threshold = value.rpartition(":")
        if not path:
            raise cls.wrong(value)
        return cls(_read_vectors(Path(path)), number(cls, value, -1, 1, threshold))

    def _mean(self, found: Iterable[str]) -> npt.NDArray[np.float32] | None:
        known = [self._vectors[word] for word in found if word in self._vectors]
        return np.mean(known, axis=0) if known else None

    def rejects(self, candidate: Candidate) -> bool:
        one, other = self._mean(words(candidate.given)), self._mean(candidate.words)
        if one is None or other is None:
            return False
        return float(one @ other) < self._threshold * float(np.linalg.norm(one) * np.linalg.norm(other))


def _read_vectors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """By lower-cased word, the first of each; word2vec's first line, how many there are and how long, is none."""
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    for place, line in enumerate(read_lines(path), 1):
        word, *values = line.split(" ")
        if place == 1 and len(values) == 1 and (word + values[0]).isdecimal():
            continue
        try:
            with np.errstate(over="ignore"):
                vector = np.array(values, np.float32)
            if not np.isfinite(vector).all():
                raise ValueError("not finite")
            vectors.setdefault(word.lower(), vector)
        except ValueError:
            raise InputError(
                f"{path}, line {place}: expected a word and its vector of numbers, separated by spaces"
            ) from None
    if len({vector.size for vector in vectors.values()}) != 1:
        raise InputError(f"{path}: expected word vectors, all of one length")
    return vectors
