"""The words of a caption that name things and what they are like.

They are found by exclusion, from the word lists that `data-gen` has of each language (function words, modifiers, adverbs): no
tagger has to be downloaded. A tagger of one's own is a function that is registered under a name.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import regex

from close.errors import MissingError, RecipeError
from close.registry import Registry, unknown_name

__all__ = ["WORD_FINDERS", "Vocabulary", "WordFinder", "common_words", "languages", "word_finder"]

WordFinder = Callable[[Sequence[str]], list[list[str]]]
"""Texts to the content words of each, in their order."""
WORD_FINDERS: Registry[WordFinder] = Registry("word finder")
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['-][\p{L}\p{M}\p{N}]+)*")
_KINDS = {"function": str, "modifiers": str, "adverb_endings": list, "inflections": list}


@dataclass(frozen=True)
class Vocabulary:
    """What is known of a language: its words without content, its attributes, how adverbs end, and how words are inflected."""

    function: frozenset[str]
    modifiers: frozenset[str]
    adverb_endings: tuple[str, ...]
    inflections: tuple[str, ...]

    def words(self, text: str) -> list[str]:
        """The words of a text in lower case; of two that an apostrophe joins (l'herbe, dog's), each, but for known ones."""
        found = _WORD.findall(unicodedata.normalize("NFC", text).lower().replace("’", "'"))
        apart = ([word] if word in self.function else word.split("'") for word in found)
        return [part for parts in apart for part in parts]

    def is_content(self, word: str, *, attributes: bool = True) -> bool:
        """Whether a word names something, or with `attributes` says what it is like."""
        return (
            any(letter.isalpha() for letter in word)
            and (len(word) > 2 or not word.isascii())
            and word not in self.function
            and (word in self.modifiers or not (self.adverb_endings and word.endswith(self.adverb_endings)))
            and (attributes or word not in self.modifiers)
        )

    def bases(self, found: Iterable[str]) -> dict[str, str]:
        """Each word to the shortest one among them that it is a form of ("dogs" to "dog" where both are there), or to itself."""
        known, bases = set(found), dict[str, str]()
        for word in sorted(known, key=lambda one: (len(one), one)):
            shorter = (word.removesuffix(end) for end in self.inflections if end and word.endswith(end))
            stems = [form for stem in shorter if len(stem) > 1 for form in _uninflected(stem)]
            bases[word] = next((bases[stem] for stem in stems if stem in bases), word)
        return bases


def _uninflected(stem: str) -> list[str]:
    """What a word may have been before its ending: dog-s, rid-ing, runn-ing, babi-es."""
    doubled = [stem[:-1]] if stem[-1] == stem[-2] else []
    return [stem, stem + "e", *doubled, *([stem[:-1] + "y"] if stem[-1] == "i" else [])]


@cache
def _folder() -> Path:
    """Where the word lists lie; they are data of the package beside this one, which is not imported for them."""
    package = find_spec("data_gen")
    return Path(package.origin or "").parent / "text" / "languages" if package else Path()


def languages() -> list[str]:
    """Tags of the languages that come with the toolkit."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


@cache
def vocabulary(language: str) -> Vocabulary:
    """The word lists of a language: a tag, or a `.toml` file.

    Raises:
        UnknownNameError, MissingError: there is none. RecipeError: it is not such a file.
    """
    is_own = language.endswith(".toml")
    if not is_own and language not in languages():
        raise unknown_name("language", language, [*languages(), *WORD_FINDERS])
    path = Path(language) if is_own else _folder() / f"{language}.toml"
    if not path.is_file():
        raise MissingError(f"language {path}: no such file")
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"language {path}: not TOML ({error})") from None
    for key, kind in _KINDS.items():
        if not isinstance(data.get(key), kind) or (kind is list and not all(isinstance(end, str) for end in data[key])):
            raise RecipeError(f"language {path}: {key} is a {'text' if kind is str else 'list of endings'}")
    function, modifiers = (frozenset(data[key].lower().split()) for key in ("function", "modifiers"))
    return Vocabulary(function, modifiers, tuple(data["adverb_endings"]), tuple(data["inflections"]))


def word_finder(language: str, *, attributes: bool = True) -> WordFinder:
    """What finds the content words of texts: one's own function of this name, or the word lists of a language.

    Raises:
        UnknownNameError, MissingError, RecipeError: there is neither, or the lists are none.
    """
    if language in WORD_FINDERS:
        if not attributes:
            raise RecipeError(
                f"retrieve: attributes is for the word lists of a language; {language!r} finds its own words"
            )
        return WORD_FINDERS[language]
    lists = vocabulary(language)

    def find(texts: Sequence[str]) -> list[list[str]]:
        return [
            list(dict.fromkeys(word for word in lists.words(text) if lists.is_content(word, attributes=attributes)))
            for text in texts
        ]

    return find


def common_words(found: Sequence[Sequence[str]], at_least: int, language: str = "en") -> list[str]:
    """The words that are in at least so many of the texts, in the order in which they first come (IFCap's filter).

    Forms of one word count together where the word itself is among them.

    Args:
        found: the content words of each text. language: whose inflections count; of one's own function, none.
    """
    lists = None if language in WORD_FINDERS else vocabulary(language)
    every = [word for text in found for word in text]
    bases = lists.bases(every) if lists else {word: word for word in every}
    counts = Counter(base for text in found for base in {bases[word] for word in text})
    return [base for base in dict.fromkeys(bases[word] for word in every) if counts[base] >= at_least]
