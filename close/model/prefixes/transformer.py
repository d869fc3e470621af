"""ClipCap's way in before a language model that stays as it is: learnt tokens that look at the vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from close.errors import MismatchError
from close.model.prefixes.base import LONGEST, PREFIXES, Prefix

__all__ = ["TransformerPrefix"]

MOST_LAYERS, MOST_HEADS = 48, 128


@PREFIXES.register("transformer")
class TransformerPrefix(Prefix):
    """Transformer layers over [Linear(vector); learnt tokens]: what becomes of the tokens. ClipCap (arXiv 2111.09734).

    Its authors use it where the language model is frozen. As in their code: the norm before each part of a layer and none at the
    end, ReLU, twice the width inside, no bias of queries, keys and values, no dropout, no positions (the learnt tokens differ).

    Args:
        layers: how many. heads: of attention; they share the language model's width evenly.
        source_length: tokens that the vector becomes; as many as come out (`length`) without it.
    Raises:
        MismatchError: the heads do not divide `hidden_size`.
    """

    name = "transformer"

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
        self.layers = nn.ModuleList(_Layer(hidden_size, heads) for _ in range(layers))

    def reset_parameters(self) -> None:
        """Start as ClipCap does: the tokens from a normal distribution, the layers as torch starts them."""
        super().reset_parameters()
        nn.init.normal_(self.tokens)

    def forward(self, embeds: Tensor) -> Tensor:
        """(B, D) → (B, k, hidden)."""
        source = self.linear(embeds).unflatten(-1, (self.source_length, -1))
        hidden = torch.cat([source, self.tokens.expand(len(embeds), -1, -1)], dim=1)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden[:, self.source_length :]


class _Layer(nn.Module):
    """Attention of all tokens to all, then two layers on each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.attention = nn.LayerNorm(width), nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width)
        self.inner_norm, self.inner = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, L, width) → the same."""
        parts = self.attention(self.attention_norm(hidden)).unflatten(
            -1, (3, self.heads, -1)
        )  # (B, L, 3, heads, width / heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        hidden = hidden + self.attended(seen)
        return hidden + self.outer(self.inner(self.inner_norm(hidden)).relu())
