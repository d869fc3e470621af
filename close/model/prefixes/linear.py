"""From one embedding to the first tokens that the language model reads."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["PrefixProjector"]


class PrefixProjector(nn.Module):
    """One linear layer from the shared space to `prefix_length` input embeddings. CLOSE (ICCV 2023), section 3.

    Args:
        embed_dim: width D of the shared space.
        hidden_size: width of the language model's input embeddings.
        prefix_length: number k of prefix tokens.
    """

    def __init__(self, embed_dim: int, hidden_size: int, prefix_length: int) -> None:
        super().__init__()
        self.prefix_length = prefix_length
        self.linear = nn.Linear(embed_dim, prefix_length * hidden_size)

    def forward(self, embeds: Tensor) -> Tensor:
        """(B, D) → (B, k, hidden)."""
        return self.linear(embeds).unflatten(-1, (self.prefix_length, -1))
