"""What a run asks of its language model, whichever kind that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PretrainedConfig

from close.errors import RecipeError

__all__ = ["IGNORED", "LONGEST_CONTEXT", "LanguageModelKind", "Template", "token_rows"]

IGNORED = -100
"""Label of a place that does not count."""
LONGEST_CONTEXT = 512
"""Tokens; longer contexts are cut."""


@dataclass(frozen=True)
class Template:
    """Token ids around what a run says: [before ; prefix ; context ; between ; after ; target ; end].

    Attributes:
        before: where every prompt begins (begin of text, the head of a chat). between: behind a context that is not empty.
        after: behind every prompt (the end of the user's turn). end: ends every target. pad: fills up.
    """

    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    end: int = 0
    pad: int = 0

    @classmethod
    def of(cls, values: Any, vocab_size: int) -> Template:
        """What a `config.json` says.

        Raises:
            RecipeError: it is no template of a model with so many tokens.
        """
        given = values if isinstance(values, Mapping) else {}
        found: dict[str, Any] = {
            key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in given.items()
        }
        ids = [token for value in found.values() for token in (value if isinstance(value, tuple) else (value,))]
        if set(found) != set(cls.__annotations__) or not all(
            type(token) is int and 0 <= token < vocab_size for token in ids
        ):
            raise RecipeError(f"template: expected token ids below {vocab_size} by {', '.join(cls.__annotations__)}")
        if any(isinstance(found[key], tuple) is (key in ("end", "pad")) for key in found):
            raise RecipeError("template: end and pad are one token id each, the others are lists of them")
        return cls(**found)

    @property
    def longest(self) -> int:
        """Tokens that it puts before an answer at most."""
        return len(self.before) + len(self.between) + len(self.after)

    def values(self) -> dict[str, Any]:
        """As a `config.json` holds it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def token_rows(ids: Sequence[int], like: Tensor) -> Tensor:
    """(B, n) the ids for each of B rows, made where these are: copied there, an accelerator would be waited for."""
    return torch.cat([torch.full((len(like), 1), one, device=like.device) for one in ids], dim=1)


class LanguageModelKind(ABC):
    """One of the two kinds of language model; `language_model_kind` says which a configuration is of.

    Attributes:
        name: what people call it. auto: transformers' class that loads such models.
        given: tokens of a generated sequence that nobody said (an encoder–decoder's start token).
        pads_left: places that do not count come first; else last, where a tokenizer's padding lies already.
    """

    name: ClassVar[str]
    auto: ClassVar[Any]
    given: ClassVar[int]
    pads_left: ClassVar[bool]

    def __init__(self, template: Template | None = None) -> None:
        self.template = template or Template()

    @classmethod
    @abstractmethod
    def template_of(cls, tokenizer: Any, vocab_size: int, where: str) -> Template | None:
        """What stands around prefix, context and target; None where the tokenizer puts it there by itself.

        Raises:
            WeightsError: the tokenizer, which lies at `where`, does not fit a model that says `vocab_size` tokens.
        """

    @abstractmethod
    def positions(self, config: PretrainedConfig, answer: int) -> tuple[float, float]:
        """How many places a model has for a prompt in front of an answer of so many tokens, and for both (∞: no limit)."""

    def room(self, config: PretrainedConfig, prefix: int, answer: int) -> int:
        """Tokens that a context may have.

        Args:
            config: the language model's. prefix: its length. answer: tokens of the longest answer.
        Raises:
            RecipeError: there is no room for any.
        """
        places, whole = self.positions(config, answer)
        if (room := places - prefix - self.template.longest) < 1:
            raise RecipeError(
                f"the language model has {whole} places, which is too few for a prefix of {prefix} tokens, "
                f"{self.template.longest} around it, a context, and an answer of up to {answer}"
            )
        return int(min(room, LONGEST_CONTEXT))

    @abstractmethod
    def contexts(self, tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Token ids behind the prefix: a context of at most `max_length` tokens, and what always follows; none for none."""

    @abstractmethod
    def targets(self, tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Token ids to produce, the end token included."""

    @abstractmethod
    def end(self, tokenizer: Any) -> int:
        """What may follow a finished text."""

    def behind_vectors(self, config: GenerationConfig) -> list[LogitsProcessor]:
        """Make settings mean what is said behind a prompt, which is vectors and padding; what they can't say, as processors.

        Args:
            config: is changed.
        """
        return []

    def arrange(self, prompt: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Put the (B, L) places that do not count where this kind wants them; the order of the others stays."""
        order = mask.argsort(dim=1, stable=True, descending=not self.pads_left)
        return prompt.take_along_dim(order[..., None], dim=1), mask.take_along_dim(order, dim=1)

    @abstractmethod
    def predict(
        self,
        language_model: Any,
        prompt: Tensor,
        mask: Tensor,
        labels: Tensor | None,
        given: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The language model's output, with logits (B, T, V) of each token of a target behind a prompt.

        Args:
            prompt: (B, L, hidden) as `CloseModel.prompt` makes it. mask: (B, L).
            labels: (B, T), `IGNORED` where they do not count.
            given: ids that the target has so far, instead of labels; the last logits are of what follows them.
        """

    @abstractmethod
    def behind(self, language_model: Any, prompt: Tensor, mask: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Read prompts once; the function returned gives the logits of targets behind them.

        Returns:
            (n,) rows of the prompts and their (n, T) labels → (n, T, V).
        """
