"""Filters of one line: no words, too many, refusals, the wrong language, forbidden words, asked ones missing, the judge's no."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from data_gen.errors import InputError
from data_gen.filters.base import FILTERS, Candidate, Filter, Setting, pair
from data_gen.text.files import read_lines
from data_gen.text.language import Language
from data_gen.text.thoughts import is_chat, without_thought
from data_gen.text.words import same_text

__all__ = ["VERDICT", "Empty", "Forbidden", "Judge", "Length", "MissingKeyword", "Refusal", "Speaks"]

VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


class Empty(Filter):
    """No word in it."""

    name = "empty"

    def rejects(self, candidate: Candidate) -> bool:
        return not candidate.words


class Refusal(Filter):
    """A refusal or a phrase of a chat ("Sure, here is …") in place of the text."""

    name = "refusal"

    def rejects(self, candidate: Candidate) -> bool:
        return is_chat(candidate.text)


@FILTERS.register("length")
class Length(Filter):
    """Fewer or more words than wanted."""

    usage = "length=3-20"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    @classmethod
    def from_option(cls, value: str, setting: Setting) -> Self:
        if not value:
            return cls(setting.style.min_words, setting.style.max_words)
        least, most = pair(cls, value, "-")
        if least > most:
            raise cls.wrong(value)
        return cls(least, most)

    def rejects(self, candidate: Candidate) -> bool:
        return not self._least <= len(candidate.words) <= self._most


@FILTERS.register("language")
class Speaks(Filter):
    """Not in the language asked for."""

    def __init__(self, language: Language) -> None:
        self._language = language

    @classmethod
    def from_option(cls, value: str, setting: Setting) -> Self:
        if value:
            raise InputError(f"--filter language takes no value, got {value!r}; --language says which one")
        return cls(setting.language)

    def rejects(self, candidate: Candidate) -> bool:
        return not self._language.speaks(candidate.text)


@FILTERS.register("forbidden")
class Forbidden(Filter):
    """Contains a forbidden word or phrase."""

    usage = "forbidden=FILE"

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases = [f" {same_text(phrase)} " for phrase in phrases]

    @classmethod
    def from_option(cls, value: str, setting: Setting) -> Self:
        if not value:
            raise cls.wrong(value)
        return cls(read_lines(Path(value)))

    def rejects(self, candidate: Candidate) -> bool:
        text = f" {same_text(candidate.text)} "
        return any(phrase in text for phrase in self._phrases)


@FILTERS.register("keywords")
class MissingKeyword(Filter):
    """Does not use every keyword, in its own or an inflected form."""

    def __init__(self, language: Language) -> None:
        self._language = language

    @classmethod
    def from_option(cls, value: str, setting: Setting) -> Self:
        if value:
            raise InputError(f"--filter keywords takes no value, got {value!r}; --keywords names their file")
        return cls(setting.language)

    def rejects(self, candidate: Candidate) -> bool:
        used = frozenset(candidate.words)
        return not all(self._language.uses(keyword, used) for keyword in candidate.keywords)


@FILTERS.register("judge")
class Judge(Filter):
    """A second call to the model, in the spirit of BLIP's CapFilt, did not answer yes."""

    def rejects(self, candidate: Candidate) -> bool:
        match = VERDICT.match(without_thought(candidate.verdict) or "")
        return match is None or match[1].lower() != "yes"
