"""Texts that are about something else, by word vectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from data_gen.errors import InputError
from data_gen.filters.base import FILTERS, Candidate, Filter, Setting, number
from data_gen.text.files import raw_lines
from data_gen.text.words import clean, words

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
    size = 0
    for place, line in enumerate(raw_lines(path), 1):
        word, *values = clean(line).split(" ")
        if not (word or values) or (not size and len(values) == 1 and (word + values[0]).isdecimal()):
            continue
        if size and len(values) != size:
            word, values = _odd(line, size)
        vector = _numbers(values)
        size = size or len(values)
        if vector is None or not size or vector.size != size:
            length = f"{size} numbers" if vectors else "numbers"
            raise InputError(f"{path}, line {place}: expected a word and its vector of {length}, separated by spaces")
        vectors.setdefault(word.lower(), vector)
    if not vectors:
        raise InputError(f"{path} holds no word vectors; expected a word and its numbers in each line")
    return vectors


def _odd(line: str, size: int) -> tuple[str, list[str]]:
    """A token with blanks or marks that nobody sees (fastText's and GloVe's files have some; no word is one), and its vector."""
    word, *fields = line.rstrip().split(" ")
    rest, values = fields[:-size], fields[-size:]
    return " ".join([word, *rest]), values if not rest or _numbers(rest) is None else fields


def _numbers(values: list[str]) -> npt.NDArray[np.float32] | None:
    """None where they are not all finite numbers."""
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None
