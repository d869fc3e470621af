"""Tokenised prompts, as a model takes them in training and in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from close.model.language_models.base import IGNORED, LanguageModelKind
from close.model.language_models.encoder_decoder import EncoderDecoder

__all__ = ["Prompter", "padded"]


class Prompter:
    """Tokenised contexts as a model takes them.

    Args:
        tokenizer: the language model's. max_length: longest context in tokens; longer ones are cut. kind: the model's.
    """

    def __init__(self, tokenizer: Any, max_length: int = 512, kind: LanguageModelKind | None = None) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.kind = kind or EncoderDecoder()

    def __call__(self, contexts: Sequence[str]) -> dict[str, Tensor]:
        """`context_ids` and `context_mask`, (B, L); nothing where every context is empty."""
        ids = self.kind.contexts(self.tokenizer, contexts, self.max_length)
        if not any(ids):
            return {}
        rows = padded(ids)
        return {"context_ids": rows.clamp(min=0), "context_mask": (rows != IGNORED).long()}


def padded(ids: Sequence[Sequence[int]]) -> Tensor:
    """(B, T) token ids, filled up with `IGNORED`."""
    return pad_sequence([torch.tensor(one, dtype=torch.long) for one in ids], True, IGNORED)
