"""What a recipe's `retrieve` says, as training and use take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from close.errors import RecipeError

__all__ = ["MOST", "Into", "LeaveOut", "Retrieval", "uses"]

Into = Literal["vectors", "captions", "words"]
LeaveOut = Literal["texts", "groups"]
MOST = 1000
"""Texts that are found at most."""
_PROMPTS = {"captions": "Similar images show {}.", "words": "There are {} in image."}


def uses(into: Into | Sequence[Into]) -> tuple[Into, ...]:
    """What is found becomes these.

    Args:
        into: one of them, or vectors with one of captions and words.
    Raises:
        ValueError: it is neither.
    """
    found = (into,) if isinstance(into, str) else tuple(into)
    known, prompts = get_args(Into), [use for use in found if use != "vectors"]
    if not found or any(use not in known for use in found) or len({*found}) < len(found) or len(prompts) > 1:
        raise ValueError(f"into is one of {', '.join(known)}, or vectors with one of the others, not {into!r}")
    return found


def _is_into(value: Any) -> bool:
    try:
        return bool(uses(value))
    except (ValueError, TypeError):
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MOST


_FITS: dict[str, Callable[[Any], bool]] = {
    "k": _is_count,
    "into": _is_into,
    "noise": lambda value: value is None or isinstance(value, dict),
    "leave_out": lambda value: value in get_args(LeaveOut),
    "encoder": lambda value: value is None or _is_text(value),
    "main": _is_switch,
    "noisy": _is_switch,
    "raw": _is_switch,
    "at_least": lambda value: value is None or _is_count(value),
    "among": lambda value: value is None or _is_count(value),
    "dropout": lambda value: isinstance(value, (int, float)) and 0 <= value < 1,
    "language": _is_text,
    "attributes": _is_switch,
    "prompt": lambda value: value is None or (_is_text(value) and value.count("{}") == 1),
}


@dataclass(frozen=True)
class Retrieval:
    """How a memory is searched, and what becomes of what is found.

    Attributes:
        k: texts found for a row or an image. into: what they become: vectors beside the main one, captions in the prompt,
            content words in the prompt, or vectors and one of the others.
        noise: on the text that training searches with, as the Gaussian adapter takes it: {"cosine": 0.67}, or std, or var.
        leave_out: what training does not find: the row's own "texts", or those of its "groups" too.
        encoder: another encoder to search in.
        main: vectors: the item's own vector goes in too. noisy: vectors: the adapter's noise is on those found, in training.
        raw: vectors: of the length that the encoder gave them.
        among: words: captions that they are looked for in; without it, k.
        at_least: words: in how many of those a word has to be; without it, in half of them.
        dropout: words: share of a caption's own words that training leaves out, others in each epoch.
        language: words: `en`, `de`, `fr`, `es`, a `.toml` like those, or the name of one's own function (`WORD_FINDERS`).
        attributes: words: colours, sizes, numbers too, and not things alone.
        prompt: captions, words: what is said of them; they come for the `{}`.
    """

    k: int = 5
    into: Into | Sequence[Into] = ("vectors",)
    noise: Mapping[str, float] | None = None
    leave_out: LeaveOut = "texts"
    encoder: str | None = None
    main: bool = True
    noisy: bool = False
    raw: bool = False
    among: int | None = None
    at_least: int | None = None
    dropout: float = 0.4
    language: str = "en"
    attributes: bool = True
    prompt: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "into", uses(self.into))

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
    def searches(self) -> bool:
        """Whether training searches too: words alone are a caption's own there."""
        return tuple(self.into) != ("words",)

    @property
    def needs_texts(self) -> bool:
        """Whether a memory must have words, and not vectors alone."""
        return self.prompted is not None

    @property
    def prompted(self) -> Into | None:
        """What comes into the prompt, if anything does."""
        return next((use for use in uses(self.into) if use != "vectors"), None)

    @property
    def asked(self) -> str:
        """Which setting says so."""
        return f"k is {self.k}" if self.most == self.k else f"among is {self.among}"

    @property
    def most(self) -> int:
        """Texts that an image has to find."""
        return max(self.k, self.among or 0)

    def told(self, found: list[str], context: str) -> str:
        """The context with what was found behind it, so that a prompt that is cut keeps what was asked."""
        use = self.prompted or "captions"
        listed = ("; " if use == "captions" else ", ").join(text.strip().rstrip(".") for text in found)
        said = (self.prompt or _PROMPTS[use]).replace("{}", listed or "something")
        return f"{context} {said}".strip()
