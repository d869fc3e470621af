"""What a recipe's `retrieve` says, as training and use take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from close.errors import RecipeError

__all__ = ["MOST", "Into", "LeaveOut", "Retrieval"]

Into = Literal["vectors", "captions", "words"]
LeaveOut = Literal["texts", "groups"]
Index = Literal["exact", "lists"]
MOST = 1000
"""Texts that are found at most."""
Count = Annotated[int, Field(ge=1, le=MOST, strict=True)]
Switch = Annotated[bool, Field(strict=True)]
_PROMPTS = {"captions": "Similar images show {}.", "words": "There are {} in image."}


class Retrieval(BaseModel):
    """How a memory is searched, and what becomes of what is found.

    Attributes:
        k: texts that are found for a row or an image.
        noise: on the text that training searches with, as the Gaussian adapter takes it: {cosine, std or var: number}.
        into: what becomes of them: "vectors" beside the main one, "captions" in the prompt, or content "words" in the prompt; or
            vectors and one of the others: [vectors, words].
        encoder: reference of another encoder to search in.
        leave_out: what training does not find: a row's own "texts", or those of its "groups" too.
        index: how training searches: "exact", or in "lists" of like texts, of which as many are searched as hold 98 % of what is
            nearest (faiss, an extra): for memories of millions.
        main: vectors: the item's own vector goes in too. noisy: vectors: the adapter's noise is on them in training.
        raw: vectors: of the length that the encoder gave them; what noises them leaves a cosine.
        among: words: captions that they are looked for in; without it, k.
        at_least: words: in how many of those a word has to be; without it, in half of them.
        dropout: words: share of a caption's own words that training leaves out, others in each epoch.
        language: words: en, de, fr, es, a `.toml` file like those, or a function of one's own (`WORD_FINDERS`).
        attributes: words: colours, sizes and numbers too, and not things alone.
        prompt: captions, words: what is said of them, with {} where they come.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    k: Count = 5
    noise: Mapping[str, float] | None = None
    into: Into | list[Into] = "vectors"
    encoder: str | None = None
    leave_out: LeaveOut | None = "texts"
    index: Index = "exact"
    main: Switch = True
    noisy: Switch = False
    raw: Switch = False
    among: Count | None = None
    at_least: Count | None = None
    dropout: float = Field(0.4, ge=0, lt=1)
    language: str = "en"
    attributes: Switch = True
    prompt: str | None = None

    @model_validator(mode="after")
    def _can_be(self) -> Retrieval:
        if not self.uses or len({*self.uses}) < len(self.uses) or {"captions", "words"} <= {*self.uses}:
            raise ValueError(
                f"into is one of vectors, captions, words, or vectors with one of the others, not {self.into!r}"
            )
        if self.at_least is not None and self.at_least > (among := self.among or self.k):
            what = "k" if self.among is None else "among"
            raise ValueError(
                f"at_least is {self.at_least}, and {what}, the captions that words are counted in, is {among}"
            )
        if self.prompt is not None and self.prompt.count("{}") != 1:
            raise ValueError(f"prompt has one {{}}, where what is found comes, not {self.prompt!r}")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Retrieval:
        """From a recipe's or a model's plain values; other keys are somebody else's.

        Raises:
            RecipeError: a value is none that a recipe can have, as of a configuration that was damaged.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            if not first["loc"]:
                raise RecipeError(f"retrieve: {first['msg'].removeprefix('Value error, ')}") from None
            raise RecipeError(f"retrieve: {first['loc'][0]} can't be {values.get(str(first['loc'][0]))!r}") from None

    @property
    def uses(self) -> tuple[Into, ...]:
        """`into`, where it is one too."""
        return (self.into,) if isinstance(self.into, str) else tuple(self.into)

    @property
    def prompted(self) -> Into | None:
        """What comes into the prompt, if anything does; a memory must have words then, and not vectors alone."""
        return next((use for use in self.uses if use != "vectors"), None)

    @property
    def searches(self) -> bool:
        """Whether training searches too: words alone are a caption's own there."""
        return self.uses != ("words",)

    @property
    def most(self) -> int:
        """Texts that an image has to find."""
        return max(self.k, self.among or 0)

    @property
    def asked(self) -> str:
        """Which setting says so."""
        return f"k is {self.k}" if self.most == self.k else f"among is {self.among}"

    def told(self, found: list[str], context: str) -> str:
        """The context with what was found behind it, so that a prompt that is cut keeps what was asked."""
        use = self.prompted or "captions"
        listed = ("; " if use == "captions" else ", ").join(text.strip().rstrip(".") for text in found)
        said = (self.prompt or _PROMPTS[use]).replace("{}", listed or "something")
        return f"{context} {said}".strip()
