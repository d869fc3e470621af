"""What a recipe's `retrieve` says, as training and use take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from close.errors import RecipeError

__all__ = ["MOST", "Into", "LeaveOut", "Retrieval"]

Into = Literal["vectors", "captions", "words"]
LeaveOut = Literal["texts", "groups"]
MOST = 1000
"""Texts that are found at most."""
_PROMPTS = {"captions": "Similar images show {}.", "words": "There are {} in image."}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST


_FITS: dict[str, Callable[[Any], bool]] = {
    "k": _is_count,
    "into": lambda value: value in get_args(Into),
    "noise": lambda value: value is None or isinstance(value, dict),
    "leave_out": lambda value: value in get_args(LeaveOut),
    "encoder": lambda value: value is None or _is_text(value),
    "main": _is_switch,
    "noisy": _is_switch,
    "raw": _is_switch,
    "at_least": lambda value: value is None or _is_count(value),
    "dropout": lambda value: isinstance(value, (int, float)) and 0 <= value < 1,
    "language": _is_text,
    "attributes": _is_switch,
    "prompt": lambda value: value is None or (_is_text(value) and value.count("{}") == 1),
}


@dataclass(frozen=True)
class Retrieval:
    """How a memory is searched, and what becomes of what is found.

    Attributes:
        k: texts found for a row or an image. into: what they become: vectors beside the main one, captions in the prompt, or
            content words in the prompt.
        noise: on the text that training searches with, as the Gaussian adapter takes it: {"cosine": 0.67}, or std, or var.
        leave_out: what training does not find: the row's own "texts", or those of its "groups" too.
        encoder: another encoder to search in.
        main: vectors: the item's own vector goes in too. noisy: vectors: the adapter's noise is on those found, in training.
        raw: vectors: of the length that the encoder gave them.
        at_least: words: in how many of the k captions a word has to be; without it, in half of them.
        dropout: words: share of a caption's own words that training leaves out.
        language: words: `en`, `de`, `fr`, `es`, a `.toml` like those, or the name of one's own function (`WORD_FINDERS`).
        attributes: words: colours, sizes, numbers too, and not things alone.
        prompt: captions, words: what is said of them; they come for the `{}`.
    """

    k: int = 5
    into: Into = "vectors"
    noise: Mapping[str, float] | None = None
    leave_out: LeaveOut = "texts"
    encoder: str | None = None
    main: bool = True
    noisy: bool = False
    raw: bool = False
    at_least: int | None = None
    dropout: float = 0.4
    language: str = "en"
    attributes: bool = True
    prompt: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Retrieval:
        """From a recipe's or a model's plain values; other keys are somebody else's.

        Raises:
            RecipeError: a value is none that a recipe can have, as of a configuration that was damaged.
        """
        known = {field.name for field in fields(cls)}
        given = {key: value for key, value in values.items() if key in known}
        for key, value in given.items():
            if not _FITS[key](value):
                raise RecipeError(f"retrieve: {key} can't be {value!r}")
        return cls(**given)

    @property
    def needs_texts(self) -> bool:
        """Whether a memory must have words, and not vectors alone."""
        return self.into != "vectors"

    def told(self, found: list[str], context: str) -> str:
        """The context with what was found behind it, so that a prompt that is cut keeps what was asked."""
        listed = ("; " if self.into == "captions" else ", ").join(text.strip().rstrip(".") for text in found)
        said = (self.prompt or _PROMPTS[self.into]).replace("{}", listed or "something")
        return f"{context} {said}".strip()
