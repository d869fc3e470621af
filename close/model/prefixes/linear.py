"""CLOSE's own way in: one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from close.model.prefixes.base import PREFIXES, Prefix

__all__ = ["LinearPrefix"]


@PREFIXES.register("linear")
class LinearPrefix(Prefix):
    """One linear layer from the shared space to `length` input embeddings a vector. CLOSE (ICCV 2023), section 3."""

    name = "linear"

    def __init__(self, embed_dim: int, hidden_size: int, *, length: int = 4) -> None:
        super().__init__(embed_dim, hidden_size, length=length)
        self.linear = nn.Linear(embed_dim, length * hidden_size)

    def forward(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, D) → (B, length, hidden)."""
        return self.linear(embeds).unflatten(-1, (self.length, -1))
