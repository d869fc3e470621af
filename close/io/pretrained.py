"""Loading a model's tokenizer, whole or not at all."""

from __future__ import annotations

from typing import Any

from close.errors import WeightsError, reason

__all__ = ["load_tokenizer"]


def load_tokenizer(place: str, vocab_size: int) -> Any:
    """The tokenizer of a hub id or local directory.

    Where its files are missing, transformers makes up one that knows the special tokens only and maps every text to the same
    ids; that is refused.

    Args:
        vocab_size: number of the model's token embeddings.
    Raises:
        WeightsError: it can't be loaded, or its files are missing.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
    except Exception as error:  # many kinds; each means that the tokenizer can't be had
        raise WeightsError(f"{place}: the tokenizer can't be loaded: {reason(error, whole=False)}") from None
    if 2 * len(tokenizer) < vocab_size:
        raise WeightsError(
            f"{place}: the tokenizer knows {len(tokenizer)} tokens, the model {vocab_size}; tokenizer files are missing"
        )
    return tokenizer
