"""Texts that are about something else, by word vectors."""

from __future__ import annotations

import re
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

_BLANKS = re.compile(r"[ \t]+")  # no others: tokens of fastText's files have them


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
    """By lower-cased word, the first of each; word2vec's first line says how many there are and how long."""
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    size = 0
    for place, line in enumerate(raw_lines(path), 1):
        if not line.strip():
            continue
        fields = _BLANKS.split(line.strip(" \t"))
        if not size and len(fields) == 2 and "".join(fields).isdecimal() and len(fields[1]) < 9:
            size = int(fields[1])
            continue
        told, size = size, size or len(fields) - 1
        token, vector = fields[:-size], _numbers(fields[-size:])
        if vector is None or not token or _is_longer(token):
            length = f"{told} numbers" if told else "numbers"
            raise InputError(f"{path}, line {place}: expected a word and its vector of {length}, separated by spaces")
        vectors.setdefault(clean(" ".join(token)).lower(), vector)
    if not vectors:
        raise InputError(f"{path} holds no word vectors; expected a word and its numbers in each line")
    return vectors


def _is_longer(token: list[str]) -> bool:
    """Whether what stands before a vector is a word and more numbers; tokens with spaces (GloVe's files have some) are not."""
    word, *rest = token
    return bool(rest) and _numbers(rest) is not None and _numbers([word]) is None


def _numbers(values: list[str]) -> npt.NDArray[np.float32] | None:
    """None where they are not all finite numbers."""
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None
