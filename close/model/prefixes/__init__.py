"""From vectors to the first tokens that the language model reads: one file a kind."""

from close.model.prefixes.base import (
    EMBEDDINGS,
    PREFIXES,
    Prefix,
    build_prefix,
    complete_prefix,
    embedding_scale,
    prefix_tokens,
)
from close.model.prefixes.fusion import FusionPrefix
from close.model.prefixes.linear import LinearPrefix
from close.model.prefixes.mlp import MlpPrefix
from close.model.prefixes.transformer import TransformerPrefix

__all__ = [
    "EMBEDDINGS",
    "PREFIXES",
    "FusionPrefix",
    "LinearPrefix",
    "MlpPrefix",
    "Prefix",
    "TransformerPrefix",
    "build_prefix",
    "complete_prefix",
    "embedding_scale",
    "prefix_tokens",
]
