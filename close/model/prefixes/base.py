"""What makes a prefix of vectors, and the registry of its kinds."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any, ClassVar

from torch import Tensor, nn

from close.errors import RecipeError
from close.registry import Registry, unknown_name

__all__ = ["PREFIXES", "Prefix", "build_prefix"]

LONGEST = 1024
"""Prefix tokens at most; language models read a few hundred tokens."""

PREFIXES: Registry[type[Prefix]] = Registry("prefix")


class Prefix(nn.Module):
    """From adapted vectors to the first input embeddings that the language model reads.

    A member is registered by name (`@PREFIXES.register("mlp")`) and takes `(embed_dim, hidden_size, *, length, …)`; what else it
    takes are its options in a recipe. It defines `forward`, and `weight`, whose dtype and device are those of the whole.

    Args:
        embed_dim: width D of the shared space. hidden_size: width of the language model's input embeddings.
        length: number k of prefix tokens.
    """

    name: ClassVar[str]

    def __init__(self, embed_dim: int, hidden_size: int, *, length: int = 4) -> None:
        super().__init__()
        if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length <= LONGEST:
            raise RecipeError(f"prefix {self.name!r}: length is a whole number ≥ 1 and ≤ {LONGEST}, not {length!r}")
        self.embed_dim, self.hidden_size, self.length = embed_dim, hidden_size, length

    @property
    def weight(self) -> Tensor:
        """Any of its weights."""
        return next(self.parameters())

    def reset_parameters(self) -> None:
        """Start as torch starts each layer (transformers would have its own way)."""
        for module in self.modules():
            if module is not self and callable(reset := getattr(module, "reset_parameters", None)):
                reset()

    def forward(self, embeds: Tensor) -> Tensor:
        """(B, D) → (B, k, hidden)."""
        raise NotImplementedError


def build_prefix(spec: Mapping[str, Any], embed_dim: int, hidden_size: int) -> Prefix:
    """A prefix from its recipe: `{kind: linear, length: 4}` and the kind's own options.

    Raises:
        UnknownNameError: no such kind or option; the nearest is told. RecipeError: an option is wrong.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("kind"), str):
        raise RecipeError(f"a prefix is {{kind: NAME, length: NUMBER}}, not {spec!r}")
    options = {key: value for key, value in spec.items() if key != "kind"}
    kind = PREFIXES[spec["kind"]]
    known = [key for key in signature(kind).parameters if key not in ("embed_dim", "hidden_size")]
    for key in options:
        if key not in known:
            raise unknown_name(f"option of prefix {spec['kind']!r}", str(key), known)
    return kind(embed_dim, hidden_size, **options)
