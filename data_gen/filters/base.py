"""What a filter is, and what it sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from data_gen.errors import InputError
from data_gen.prompts.style import Style
from data_gen.registry import Registry
from data_gen.text.language import Language
from data_gen.text.words import words

__all__ = ["FILTERS", "Candidate", "Filter", "Setting", "number", "pair"]


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


@dataclass(frozen=True)
class Setting:
    """What of a run filters may depend on."""

    style: Style
    language: Language
    seed: int


class Filter(ABC):
    """Knows which candidates are not wanted; `add` is called with each one that is accepted.

    Subclass, register in `FILTERS`, done: `--filter NAME=VALUE` calls `from_option`.

    Attributes:
        name: as on the command line, and the reason of a rejected row.
        usage: how the option is written, where a value belongs to it: `length=3-20`.
    """

    name: str = ""
    usage: str = ""

    @classmethod
    def from_option(cls, value: str, setting: Setting) -> Self:
        """The filter from the VALUE of `--filter NAME=VALUE`, empty where there is none; without it by default.

        Raises:
            InputError: an impossible value, with what was expected.
        """
        if value:
            raise InputError(f"--filter {cls.name} takes no value, got {value!r}")
        return cls()

    @abstractmethod
    def rejects(self, candidate: Candidate) -> bool:
        """Whether the candidate is not wanted."""

    def alike(self, candidate: Candidate, other: Candidate) -> bool:
        """Whether two candidates that are accepted together, or not at all, can't both be."""
        return False

    def add(self, candidate: Candidate) -> None:  # noqa: B027 - most filters have nothing to remember
        """Remember an accepted candidate, where that matters."""

    @classmethod
    def wrong(cls, value: str) -> InputError:
        """The error for a value that can't be."""
        return InputError(f"--filter {cls.name}={value}: expected {cls.usage}")


FILTERS: Registry[Filter] = Registry("filter")


def number(kind: type[Filter], value: str, low: float, high: float, part: str | None = None) -> float:
    """The number in a filter's value, from `low` to `high`.

    Raises:
        InputError: it is none, or out of its range.
    """
    try:
        found = float(value if part is None else part)
    except ValueError:
        raise kind.wrong(value) from None
    if not low <= found <= high:
        raise InputError(f"--filter {kind.name}={value}: {found:g} is not from {low:g} to {high:g}")
    return found


def pair(kind: type[Filter], value: str, separator: str) -> tuple[int, int]:
    """Two whole numbers in a filter's value.

    Raises:
        InputError: it is not that.
    """
    one, _, other = value.partition(separator)
    if not (one.isdecimal() and other.isdecimal() and len(value) < 20):
        raise kind.wrong(value)
    return int(one), int(other)
