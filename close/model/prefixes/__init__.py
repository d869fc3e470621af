"""From vectors to the first tokens that the language model reads: one file a kind."""

from close.model.prefixes.base import PREFIXES, Prefix, build_prefix
from close.model.prefixes.linear import LinearPrefix

__all__ = ["PREFIXES", "LinearPrefix", "Prefix", "build_prefix"]
