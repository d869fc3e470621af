"""The texts that a search finds, whatever kind of language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from close.fast.precision import in_autocast
from close.fast.probe import is_on
from close.fast.search.causal import CausalDecoding
from close.fast.search.loop import Decoding, beams, greedy
from close.fast.search.settings import Search
from close.fast.search.t5 import T5Decoding

__all__ = ["find_texts", "planned"]


def planned(model: PreTrainedModel, config: GenerationConfig, length: int) -> Search | None:
    """The search that does what `model.generate(generation_config=config)` is asked for; None where transformers must.

    Args:
        length: of the prompt, padding included.
    """
    # packed layers do not heed it, and their copies of weights are not in its cache
    if in_autocast(model.device):
        return None
    search = Search.of(model, config, length)
    return search if search and is_on(search.path) else None


def find_texts(model: Any, prompt: Tensor, mask: Tensor, search: Search) -> tuple[Tensor, Tensor]:
    """The best texts of each input.

    Args:
        prompt: (B, L, hidden) input embeddings. mask: (B, L) which of them count.
    Returns:
        (B · texts, T) ids as `generate` returns them, and (B · texts,) scores: summed log-probability over
        length ** length_penalty (greedy: mean).
    """
    kind = T5Decoding if search.path == "t5_search" else CausalDecoding
    decoding: Decoding = kind(model, prompt, mask, search)
    ids, scores = greedy(decoding, search) if search.num_beams == 1 else beams(decoding, search)
    if search.start is not None:
        ids = torch.cat([torch.full_like(ids[:, :1], search.start), ids], 1)
    return ids, scores
