"""ClipCap's way in before a language model that stays as it is: learnt tokens that look at the vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from close.errors import MismatchError
from close.model.prefixes.base import LONGEST, PREFIXES, Prefix

__all__ = ["Layer", "TransformerPrefix"]

MOST_LAYERS, MOST_HEADS = 48, 128


@PREFIXES.register("transformer")
class TransformerPrefix(Prefix):
    """Transformer layers over [Linear(vectors); learnt tokens]: what becomes of the tokens. ClipCap (arXiv 2111.09734).

    Its authors use it where the language model is frozen. As in their code: the norm before each part of a layer and none at the
    end, ReLU, twice the width inside, no bias of queries, keys and values, no dropout, no positions (the learnt tokens differ).
    So the order of several vectors makes no difference.

    Args:
        layers: how many. heads: of attention; they share the language model's width evenly.
        source_length: tokens that each vector becomes; as many as come out (`length`) without it.
    Raises:
        MismatchError: the heads do not divide `hidden_size`.
    """

    name = "transformer"
    joint = True

    def __init__(
        self,
        embed_dim: int,
        hidden_size: int,
        *,
        length: int = 10,
        layers: int = 8,
        heads: int = 8,
        source_length: int | None = None,
    ) -> None:
        super().__init__(embed_dim, hidden_size, length=length)
        layers, heads = self.whole("layers", layers, MOST_LAYERS), self.whole("heads", heads, MOST_HEADS)
        self.source_length = length if source_length is None else self.whole("source_length", source_length, LONGEST)
        if hidden_size % heads:
            raise MismatchError(
                f"prefix {self.name!r}: {heads} heads do not divide the language model's width {hidden_size}; set heads"
            )
        self.linear = nn.Linear(embed_dim, self.source_length * hidden_size)
        self.tokens = nn.Parameter(torch.randn(length, hidden_size))
        self.layers = nn.ModuleList(Layer(hidden_size, heads) for _ in range(layers))

    def reset_parameters(self) -> None:
        """Start as ClipCap does: the tokens from a normal distribution, the layers as torch starts them."""
        super().reset_parameters()
        nn.init.normal_(self.tokens)

    def forward(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, D) or (B, k, D), and (B, k) which of them count → (B, length, hidden)."""
        source, seen = self.source(embeds, mask)
        hidden = torch.cat([source, self.tokens.expand(len(embeds), -1, -1)], dim=1)
        if seen is not None:
            seen = torch.cat([seen, seen.new_ones(len(seen), self.length)], dim=1)
        for layer in self.layers:
            hidden = layer(hidden, seen)
        return hidden[:, source.shape[1] :]

    def source(self, embeds: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the learnt tokens look at beside themselves, (B, S, hidden), and which of it counts, (B, S)."""
        source = self.linear(embeds).unflatten(-1, (self.source_length, -1)).flatten(1, -2)
        return source, None if mask is None else mask.repeat_interleave(self.source_length, dim=1)


class Layer(nn.Module):
    """Attention of all tokens to all, or to others, then two layers on each.

    Args:
        width: of the tokens. heads: of attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.attention = nn.LayerNorm(width), nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width)
        self.inner_norm, self.inner = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor, seen: Tensor | None = None, others: Tensor | None = None) -> Tensor:
        """(B, L, width) → the same.

        Args:
            seen: (B, m) bool, which tokens are looked at; None for all. others: (B, m, width) what is looked at, if not `hidden`.
        """
        normed = self.attention_norm(hidden)
        if others is None:
            queries, keys, values = self._heads(self.attention(normed), 3)
        else:
            own, theirs = self.attention.weight.split([hidden.shape[-1], 2 * hidden.shape[-1]])
            (queries,), (keys, values) = self._heads(F.linear(normed, own), 1), self._heads(F.linear(others, theirs), 2)
        mask = None if seen is None else seen[:, None, None]
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)
        hidden = hidden + self.attended(found)
        return hidden + self.outer(self.inner(self.inner_norm(hidden)).relu())

    def _heads(self, parts: Tensor, count: int) -> Tensor:
        """(B, L, count · width) → (count, B, heads, L, width / heads)."""
        return parts.unflatten(-1, (count, self.heads, -1)).permute(2, 0, 3, 1, 4)
