"""Encoder–decoder language models (T5, BART): the prompt lies in the encoder, the target in the decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, PretrainedConfig
from transformers.modeling_outputs import BaseModelOutput

from close.model.language_models.base import LanguageModelKind

__all__ = ["EncoderDecoder"]


class EncoderDecoder(LanguageModelKind):
    """The tokenizer knows how contexts and targets end."""

    name = "encoder–decoder"
    auto: ClassVar[Any] = AutoModelForSeq2SeqLM
    given = 1
    pads_left = False

    @classmethod
    def template_of(cls, tokenizer: Any, vocab_size: int, where: str) -> None:
        """None."""

    def positions(self, config: PretrainedConfig, answer: int) -> tuple[float, float]:
        """Encoder and decoder have their own (BART), or need none (T5)."""
        places = getattr(config, "max_position_embeddings", None) or math.inf
        return (places if answer < places else 0), places

    def contexts(self, tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Contexts as the tokenizer writes them."""
        ids: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
        return [one if text else [] for one, text in zip(ids, texts, strict=True)]

    def targets(self, tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Targets as the tokenizer writes them."""
        cut = {} if max_length is None else {"truncation": True, "max_length": max_length}
        ids: list[list[int]] = tokenizer(text_target=list(texts), **cut)["input_ids"]
        return ids

    def end(self, tokenizer: Any) -> int:
        """The tokenizer's padding."""
        return int(tokenizer.pad_token_id)

    def predict(
        self,
        language_model: Any,
        prompt: Tensor,
        mask: Tensor,
        labels: Tensor | None,
        given: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The decoder's output; `given` begins with its start token."""
        if given is None and labels is not None:
            given = language_model.prepare_decoder_input_ids_from_labels(labels=labels)
            if not prompt.is_cpu:  # where products of what was not copied into a cache are rounded otherwise
                kwargs.setdefault("use_cache", False)  # nothing follows a whole target
        return language_model(inputs_embeds=prompt, attention_mask=mask, decoder_input_ids=given, **kwargs)

    def behind(self, language_model: Any, prompt: Tensor, mask: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The encoder runs once a prompt."""
        hidden = language_model.get_encoder()(inputs_embeds=prompt, attention_mask=mask).last_hidden_state

        def logits(rows: Tensor, labels: Tensor) -> Tensor:
            found: Tensor = language_model(
                encoder_outputs=BaseModelOutput(last_hidden_state=hidden[rows]),
                attention_mask=mask[rows],
                decoder_input_ids=language_model.prepare_decoder_input_ids_from_labels(labels=labels),
            ).logits
            return found

        return logits
