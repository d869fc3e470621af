"""What makes a prefix of vectors, and the registry of its kinds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from close.errors import MismatchError, RecipeError
from close.registry import Registry, unknown_name

__all__ = ["EMBEDDINGS", "PREFIXES", "Prefix", "build_prefix", "complete_prefix", "embedding_scale", "prefix_tokens"]

EMBEDDINGS, MOST_SCALE = "embeddings", 1e6
LENGTH, LONGEST = 4, 1024
"""Prefix tokens where neither a recipe nor a kind says how many, and at most; language models read a few hundred tokens."""

PREFIXES: Registry[type[Prefix]] = Registry("prefix")


class Prefix(nn.Module):
    """From adapted vectors to the first input embeddings that the language model reads.

    A member is registered by name (`@PREFIXES.register("mlp")`) and takes `(embed_dim, hidden_size, *, length, …)`; what else it
    takes are its options in a recipe. It defines `forward`; parameters that no layer of torch holds start in `reset_parameters`.

    An item may have several vectors: its neighbours, several images of one row. Each becomes `length` tokens of its own, in the
    vectors' order, unless the kind reads them together (`joint`).

    Args:
        embed_dim: width D of the shared space. hidden_size: width of the language model's input embeddings.
        length: prefix tokens; of each vector, or where the kind is joint of all of them.
    Attributes:
        scale: what its tokens are multiplied by; see `embedding_scale`.
        joint: `forward` takes (B, k, D), the first the item's own, and (B, k) which of them count or None where all do.
    Raises:
        RecipeError: an option is wrong whatever the widths. MismatchError (of a member): it does not fit `hidden_size`.
    """

    name: ClassVar[str]
    joint: ClassVar[bool] = False
    scale: float = 1.0

    def __init__(self, embed_dim: int, hidden_size: int, *, length: int = LENGTH) -> None:
        super().__init__()
        self.embed_dim, self.hidden_size = embed_dim, hidden_size
        self.length = self.whole("length", length, LONGEST)

    def whole(self, option: str, value: object, most: int) -> int:
        """An option's value, which has to be a whole number from 1 to `most`.

        Raises:
            RecipeError: it is none.
        """
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise RecipeError(f"prefix {self.name!r}: {option} is a whole number ≥ 1 and ≤ {most}, not {value!r}")
        return value

    def length_of(self, vectors: int) -> int:
        """Tokens that come of so many vectors."""
        return self.length if self.joint else self.length * vectors

    @property
    def weight(self) -> Tensor:
        """Any of its weights."""
        return next(self.parameters())

    def reset_parameters(self) -> None:
        """Start as torch starts each layer (transformers would have its own way)."""
        for module in self.modules():
            if module is not self and callable(reset := getattr(module, "reset_parameters", None)):
                reset()

    def forward(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, D) → (B, length, hidden); `mask` only where the kind is joint."""
        raise NotImplementedError


def prefix_tokens(prefix: Any, vectors: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """The tokens of items of one vector or of several.

    Args:
        prefix: a `Prefix`, or what PEFT makes of one. vectors: (B, D), or (B, k, D).
        mask: (B, k) bool, which of them count; None where all do.
    Returns:
        (B, p, hidden) tokens, and which of them count, (B, p) bool; None where all do.
    Raises:
        MismatchError: the prefix makes another shape.
    """
    if vectors.ndim == 2:
        tokens, mask = _made(prefix, vectors), None
    elif prefix.joint:
        tokens, mask = _made(prefix, vectors, mask), None
    else:
        tokens = _made(prefix, vectors.flatten(0, 1)).unflatten(0, vectors.shape[:2]).flatten(1, 2)
        mask = None if mask is None else mask.repeat_interleave(prefix.length, dim=1)
    return tokens if prefix.scale == 1 else tokens * prefix.scale, mask


def _made(prefix: Any, *given: Any) -> Tensor:
    tokens: Tensor = prefix(*given)
    wanted = (prefix.length, prefix.hidden_size)
    if tokens.ndim != 3 or tuple(tokens.shape[1:]) != wanted:
        raise MismatchError(
            f"prefix {prefix.name!r} made {tuple(tokens.shape)} of {len(given[0])} items, expected (items, length, hidden size) "
            f"with {wanted[0]} and {wanted[1]}"
        )
    return tokens


@torch.no_grad()
def embedding_scale(prefix: Prefix, table: nn.Embedding) -> float:
    """What makes a prefix's tokens, before any training, as long as the language model's own.

    Language models differ: T5's token embeddings are some fifteen times as long as what a linear layer makes of a unit vector at
    first, GPT-2's a fraction of a Transformer's tokens. Where the model is frozen, it reads little of what is too short.

    Args:
        table: the language model's token embeddings; some (Gemma, mBART) scale them as they are looked up.
    """
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(256, prefix.embed_dim, generator=generator), dim=-1).to(prefix.weight)
    tokens = prefix(vectors).norm(dim=-1).mean()
    own = table(torch.arange(table.num_embeddings, device=table.weight.device)).float().norm(dim=-1).mean()
    return float(f"{float(own / tokens.float()):.4g}")


def complete_prefix(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A prefix's recipe, looked at before the widths are known, with its kind's length where it names none.

    Raises:
        UnknownNameError, RecipeError: see `build_prefix`.
    """
    with suppress(MismatchError), torch.device("meta"):
        build_prefix(spec, 8, 8)
    length = signature(PREFIXES[spec["kind"]]).parameters.get("length")
    default = length.default if length and isinstance(length.default, int) else LENGTH
    return {"kind": spec["kind"], "length": default, **spec}


def build_prefix(spec: Mapping[str, Any], embed_dim: int, hidden_size: int) -> Prefix:
    """A prefix from its recipe: `{kind: linear, length: 4}`, `scale`, and the kind's own options.

    Raises:
        UnknownNameError: no such kind or option; the nearest is told. RecipeError: an option is wrong. MismatchError: it does
            not fit the widths.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("kind"), str):
        raise RecipeError(f"a prefix is {{kind: NAME, length: NUMBER}}, not {spec!r}")
    options = {key: value for key, value in spec.items() if key not in ("kind", "scale")}
    scale = spec.get("scale", 1.0)
    if scale != EMBEDDINGS and not (type(scale) in (int, float) and 0 < scale <= MOST_SCALE):
        raise RecipeError(
            f"prefix {spec['kind']!r}: scale is {EMBEDDINGS!r}, or a number > 0 and ≤ {MOST_SCALE:g}, not {scale!r}"
        )
    kind = PREFIXES[spec["kind"]]
    known = [key for key in signature(kind).parameters if key not in ("embed_dim", "hidden_size")]
    for key in options:
        if key not in known:
            raise unknown_name(f"option of prefix {spec['kind']!r}", str(key), [*known, "scale"])
    prefix = kind(embed_dim, hidden_size, **options)
    if scale != EMBEDDINGS:  # what that comes to is known once there are weights
        prefix.scale = float(scale)
    return prefix
