"""From vectors to the first tokens that the language model reads: one file a kind."""

from close.model.prefixes.base import PREFIXES, Prefix, build_prefix, complete_prefix, prefix_tokens
from close.model.prefixes.fusion import FusionPrefix
from close.model.prefixes.linear import LinearPrefix
from close.model.prefixes.mlp import MlpPrefix
from close.model.prefixes.transformer import TransformerPrefix

__all__ = [
    "PREFIXES",
    "FusionPrefix",
    "LinearPrefix",
    "MlpPrefix",
    "Prefix",
    "TransformerPrefix",
    "build_prefix",
    "complete_prefix",
    "prefix_tokens",
]
