"""Filters: what an accepted row must not be. They see candidates in request order and compose in the order given."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt

from data_gen.errors import InputError
from data_gen.prompts.shots import Shot, Style
from data_gen.text.files import read_lines, words
from data_gen.text.language import Language

__all__ = ["Candidate", "Filter", "default_filters", "digest", "make_filter", "same_text"]


@dataclass(frozen=True)
class Candidate:
    """A row that a model wrote, before it is accepted.

    Attributes:
        id: of the row.
        given: the keywords or the text of its prompt.
        text: what the model wrote, the parts joined by spaces.
        key: what makes it the same as another row.
        keywords: those asked for; empty where a text was given.
        verdict: what the judge said of it, where one was asked.
    """

    id: str
    given: str
    text: str
    key: str
    keywords: tuple[str, ...] = ()
    verdict: str = ""

    @cached_property
    def words(self) -> list[str]:
        """Lower-cased words of the text."""
        return words(self.text)


class Filter:
    """Tells which candidates are not wanted; `add` is called with each one that is accepted."""

    name = ""

    def rejects(self, candidate: Candidate) -> bool:
        raise NotImplementedError

    def add(self, candidate: Candidate) -> None:
        """Remember an accepted candidate, where that matters."""


class Empty(Filter):
    """No word in it."""

    name = "empty"

    def rejects(self, candidate: Candidate) -> bool:
        return not candidate.words


_CHAT = re.compile(
    r"""^(sure|certainly|of\ course|absolutely|okay|ok|no\ problem|gladly)\s*[,!.:]*\s*(here\b|below\b|i'll\b|i\ can\b|$)
    |^here('s|\ is|\ are)\ (\w+\ ){0,4}(captions?|rewrit(e|ten)|paraphrased?|paraphrases)\b
    |\b(i|i'm|i\ am)\ (can't|cannot|can\ not|won't|(not\ |un)able\ to)
     \ (help|assist|provide|create|write|generate|fulfill|comply)\b
    |^(i'm|i\ am)\ (sorry|afraid),?\ (but|as)\b
    |\bas\ (an\ ai|an?\ (ai\ |large\ )?language\ model|an\ artificial\ intelligence)\b
    |\b(hope\ (this|that|it)\ helps|let\ me\ know\ if)\b
    |^(caption|keywords|premise|instruction)s?\s*:
    |\bthe\ (given|provided)\ (keywords|caption)\b
    |^(es\ tut\ mir\ leid,|hier\ ist\ (eine|die)\ bildunterschrift|als\ ki\b)
    |^(je\ suis\ désolée?,|voici\ (une|la)\ légende|en\ tant\ qu'ia\b)
    |^(lo\ siento,|aquí\ (está|tienes)\ (una|la)\ (leyenda|descripción)|como\ modelo\ de\ lenguaje)""",
    re.IGNORECASE | re.VERBOSE,
)


class Refusal(Filter):
    """A refusal or a phrase of a chat ("Sure, here is …") in place of the text."""

    name = "refusal"

    def rejects(self, candidate: Candidate) -> bool:
        return _CHAT.search(candidate.text.replace("’", "'")) is not None


def digest(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def same_text(text: str) -> str:
    """What two texts that are the same to us share: their words."""
    return " ".join(words(text))


class Duplicate(Filter):
    """The same words as an accepted row. Remembers 8 bytes a row (about 100 MB per million in Python's set)."""

    name = "duplicate"

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def rejects(self, candidate: Candidate) -> bool:
        return digest(same_text(candidate.key)) in self._seen

    def add(self, candidate: Candidate) -> None:
        self._seen.add(digest(same_text(candidate.key)))


class Copied(Filter):
    """The same words as a shot, or as what was given."""

    name = "copied"

    def __init__(self, shots: Iterable[Shot]) -> None:
        self._shots = {same_text(" ".join(record.values())) for shot in shots for record in shot.records}
        self._shots |= {same_text(value) for shot in shots for record in shot.records for value in record.values()}

    def rejects(self, candidate: Candidate) -> bool:
        text = same_text(candidate.text)
        return text in self._shots or text == same_text(candidate.given)


class Length(Filter):
    """Fewer or more words than wanted."""

    name = "length"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def rejects(self, candidate: Candidate) -> bool:
        return not self._least <= len(candidate.words) <= self._most


class Speaks(Filter):
    """Not in the language asked for."""

    name = "language"

    def __init__(self, language: Language) -> None:
        self._language = language

    def rejects(self, candidate: Candidate) -> bool:
        return not self._language.speaks(candidate.text)


class Forbidden(Filter):
    """Contains a forbidden word or phrase."""

    name = "forbidden"

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases = [f" {same_text(phrase)} " for phrase in phrases]

    def rejects(self, candidate: Candidate) -> bool:
        text = f" {' '.join(candidate.words)} "
        return any(phrase in text for phrase in self._phrases)


class MissingKeyword(Filter):
    """Does not use every keyword, in its own or an inflected form."""

    name = "keywords"

    def __init__(self, language: Language) -> None:
        self._language = language

    def rejects(self, candidate: Candidate) -> bool:
        used = frozenset(candidate.words)
        return not all(self._language.uses(keyword, used) for keyword in candidate.keywords)


class Judge(Filter):
    """A second call to the model, in the spirit of BLIP's CapFilt, did not answer yes."""

    name = "judge"

    def rejects(self, candidate: Candidate) -> bool:
        return not re.match(r"\W*yes\b", candidate.verdict, re.IGNORECASE)


class FrequentNgrams(Filter):
    """CLOSE's filter: each n-gram of 4 to 9 words that occurred `often` times adds count/`scale` to the chance to go.

    Counts are of accepted rows, kept in a count–min sketch of 16 MB: they can only be too high, and are exact until
    hundreds of thousands of different n-grams have come.
    """

    name = "ngrams"
    _BITS = 20
    _ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)

    def __init__(self, often: int, scale: float, seed: int) -> None:
        self._often, self._scale, self._seed = often, scale, seed
        self._counts = np.zeros((4, 1 << self._BITS), np.uint32)

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


class NearDuplicate(Filter):
    """Too alike an accepted row: estimated Jaccard similarity of their words and word pairs, by MinHash.

    64 permutations; rows that share one of 16 bands of 4 are compared by the whole signature. Signatures and tables
    take between 256 and 512 bytes a row, whatever its length. A place in a table holds the latest row only, so that a
    pair which meets in a single band may be missed.
    """

    name = "near"
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


class Cosine(Filter):
    """The mean word vector of the text lies too far from that of the keywords (or of the text that was given)."""

    name = "cosine"

    def __init__(self, vectors: dict[str, npt.NDArray[np.float32]], threshold: float) -> None:
        self._vectors, self._threshold = vectors, threshold

    def _mean(self, found: Iterable[str]) -> npt.NDArray[np.float32] | None:
        known = [self._vectors[word] for word in found if word in self._vectors]
        return np.mean(known, axis=0) if known else None

    def rejects(self, candidate: Candidate) -> bool:
        one, other = self._mean(words(candidate.given)), self._mean(candidate.words)
        if one is None or other is None:
            return False
        return float(one @ other) < self._threshold * float(np.linalg.norm(one) * np.linalg.norm(other))


def _read_vectors(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    vectors = {}
    for number, line in enumerate(read_lines(path), 1):
        word, *values = line.split(" ")
        try:
            vectors[word] = np.array(values, np.float32)
        except ValueError:
            raise InputError(f"{path}, line {number}: expected a word and its vector, separated by spaces") from None
    if len({vector.size for vector in vectors.values()}) != 1:
        raise InputError(f"{path}: expected word vectors, all of one length")
    return vectors


def _numbers(name: str, value: str, separator: str, example: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in value.split(separator))
    except ValueError:
        raise InputError(f"--filter {name}={value}: expected {name}={example}") from None


def _pair(name: str, value: str, separator: str, example: str) -> tuple[float, float]:
    numbers = _numbers(name, value, separator, example)
    if len(numbers) != 2:
        raise InputError(f"--filter {name}={value}: expected {name}={example}")
    return numbers[0], numbers[1]


def default_filters(shots: Sequence[Shot]) -> list[Filter]:
    """Those that only remove what no one wants."""
    return [Empty(), Refusal(), Copied(shots), Duplicate()]


def make_filter(option: str, style: Style, language: Language, seed: int) -> Filter:
    """A filter from `name` or `name=value`: `length=3-20`, `language`, `forbidden=FILE`, `near=0.7`, `ngrams=50/800`,
    `keywords`, `judge`, `cosine=FILE:0.3`.

    Raises:
        InputError: an unknown name or an impossible value, with what was expected.
    """
    name, _, value = option.partition("=")

    def length() -> Filter:
        least, most = _pair(name, value, "-", "3-20") if value else (style.min_words, style.max_words)
        return Length(int(least), int(most))

    def cosine() -> Filter:
        path, _, threshold = value.rpartition(":")
        return Cosine(_read_vectors(Path(path)), _numbers(name, threshold, ":", "FILE:0.3")[0])

    def forbidden() -> Filter:
        return Forbidden(read_lines(Path(value)))

    makers: dict[str, Callable[[], Filter]] = {
        "length": length,
        "language": lambda: Speaks(language),
        "forbidden": forbidden,
        "near": lambda: NearDuplicate(_numbers(name, value or "0.7", ":", "0.7")[0]),
        "ngrams": lambda: FrequentNgrams(*_ngram_limits(name, value or "50/800"), seed),
        "keywords": lambda: MissingKeyword(language),
        "judge": Judge,
        "cosine": cosine,
    }
    if name not in makers:
        raise InputError(f"no filter {name!r}; known: {', '.join(makers)}")
    return makers[name]()


def _ngram_limits(name: str, value: str) -> tuple[int, float]:
    often, scale = _pair(name, value, "/", "50/800")
    return int(often), scale
