"""Greedy and beam search of language models: what transformers' `generate` finds, in a loop made for it."""

from close.fast.search.find import find_texts, planned
from close.fast.search.settings import Search
from close.fast.search.weights import forget

__all__ = ["Search", "find_texts", "forget", "planned"]
