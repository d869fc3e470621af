"""Decoder-only language models (GPT-2, OPT, Llama, Qwen, Gemma, Phi, Mistral): prompt and target are one sequence.

Prompts are padded on the left, and positions count what is no padding: so a sliding window sees as far as in a row alone, and
the target follows in the same columns for all rows. Most models would count padding if they were not told positions.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    PretrainedConfig,
    RepetitionPenaltyLogitsProcessor,
)

from close.errors import WeightsError
from close.model.language_models.base import IGNORED, LanguageModelKind, Template
from close.model.language_models.chat import chat_around

__all__ = ["DecoderOnly"]


class DecoderOnly(LanguageModelKind):
    """The template says what stands before the prefix, and what ends a target: tokenizers of this kind do not agree."""

    name = "decoder-only"
    auto: ClassVar[Any] = AutoModelForCausalLM
    given = 0
    pads_left = True

    @classmethod
    def template_of(cls, tokenizer: Any, vocab_size: int, where: str) -> Template:
        """By the tokenizer's chat template if it has one, else by its own way of beginning and ending a text."""
        end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        if end is None or end >= vocab_size:
            raise WeightsError(f"{where}: the tokenizer names no end token (eos_token) that the model has")
        pad = end if pad is None or pad >= vocab_size else pad
        if tokenizer.chat_template:
            before, after, end = chat_around(tokenizer, where)
            return Template(before=before, after=after, end=end, pad=pad)
        whole, (text, broken) = tokenizer("a")["input_ids"], _plain(tokenizer, ["a", "a\n"])
        start = next((place for place in range(len(whole)) if whole[place : place + len(text)] == text), 0)
        return Template(
            before=tuple(whole[:start]),
            between=tuple(broken[len(text) :] if broken[: len(text)] == text else ()),
            end=end,
            pad=pad,
        )

    def positions(self, config: PretrainedConfig, answer: int) -> tuple[float, float]:
        """Prompt and answer share them."""
        places = getattr(config.get_text_config(), "max_position_embeddings", None) or math.inf
        return places - answer, places

    def contexts(self, tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """A context, `between` behind it, and `after` in any case."""
        between, after = list(self.template.between), list(self.template.after)
        return [(ids + between if ids else ids) + after for ids in _plain(tokenizer, texts, max_length)]

    def targets(self, tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """A target and its end token."""
        longest = None if max_length is None else max_length - 1
        return [[*ids, self.template.end] for ids in _plain(tokenizer, texts, longest)]

    def end(self, tokenizer: Any) -> int:
        """The template's padding."""
        return self.template.pad

    def behind_vectors(self, config: GenerationConfig) -> list[LogitsProcessor]:
        """Transformers takes a prompt's length off `min_length`, and a row's padding off what `repetition_penalty` looks at."""
        if config.min_length:
            config.min_new_tokens, config.min_length = max(config.min_new_tokens or 0, config.min_length), None
        if (penalty := config.repetition_penalty) in (None, 1.0):
            return []
        config.repetition_penalty = 1.0
        return [RepetitionPenaltyLogitsProcessor(penalty)]

    def predict(
        self,
        language_model: Any,
        prompt: Tensor,
        mask: Tensor,
        labels: Tensor | None,
        given: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """One pass over prompt and target; nothing is `given` before the target's first token."""
        if given is None:
            given = prompt.new_zeros(len(prompt), 0, dtype=torch.long) if labels is None else labels[:, :-1]
        tokens = language_model.get_input_embeddings()(given.clamp(min=0)).to(prompt.dtype)
        mask = torch.cat([mask, (given != IGNORED).to(mask.dtype)], dim=1)
        return _last_logits(
            language_model, given.shape[1] + 1, mask, inputs_embeds=torch.cat([prompt, tokens], dim=1), **kwargs
        )

    def behind(self, language_model: Any, prompt: Tensor, mask: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """A prompt runs once, and its cache is shared by the targets behind it."""
        read = _last_logits(language_model, 1, mask, inputs_embeds=prompt, use_cache=True)
        layers = getattr(read.get("past_key_values"), "layers", [None])
        if not all(hasattr(layer, "batch_select_indices") for layer in layers):
            # a recurrent layer's state can't be shared: the prompt is read with each target
            return lambda rows, labels: self.predict(language_model, prompt[rows], mask[rows], labels).logits

        def logits(rows: Tensor, labels: Tensor) -> Tensor:
            first: Tensor = read.logits[rows]
            if labels.shape[1] == 1:
                return first
            cache = copy.copy(read.past_key_values)  # selecting makes tensors of its own
            cache.layers = [copy.copy(layer) for layer in cache.layers]
            cache.batch_select_indices(rows)
            given = labels[:, :-1]
            whole = torch.cat([mask[rows], (given != IGNORED).to(mask.dtype)], dim=1)
            length = given.shape[1]
            later = _last_logits(
                language_model, length, whole, input_ids=given.clamp(min=0), past_key_values=cache, use_cache=True
            ).logits
            return torch.cat([first, later], dim=1)

        return logits


def _last_logits(language_model: Any, count: int, mask: Tensor, *, use_cache: bool = False, **inputs: Any) -> Any:
    """The output, with the logits of the last `count` places; positions are those of what is no padding."""
    taken = inspect.signature(language_model.forward).parameters
    new = next(tensor.shape[1] for key, tensor in inputs.items() if key in ("inputs_embeds", "input_ids"))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -new:]
    extra = {"position_ids": positions, "logits_to_keep": count, "use_cache": use_cache}
    output = language_model(
        attention_mask=mask, **inputs, **{key: value for key, value in extra.items() if key in taken}
    )
    output["logits"] = output.logits[:, -count:]
    return output


def _plain(tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
    """Token ids of texts alone, at most so many."""
    cut = {} if max_length is None else {"truncation": True, "max_length": max_length}
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, **cut)["input_ids"]
    return ids
