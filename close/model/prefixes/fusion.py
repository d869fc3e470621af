"""IFCap's way in: the item's own vector asks, those found for it answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from close.model.prefixes.base import PREFIXES
from close.model.prefixes.transformer import Layer, TransformerPrefix

__all__ = ["FusionPrefix"]


@PREFIXES.register("fusion")
class FusionPrefix(TransformerPrefix):
    """Cross-attention of [Linear(first vector)] to Linear(other vectors), then ClipCap's layers. IFCap (arXiv 2409.18046).

    As in its authors' code: the layer of cross-attention is one of ClipCap's whose keys and values are of the others, without a
    norm of them, and those layers follow over [what it makes; learnt tokens]. The order of the others makes no difference. A
    vector without others answers itself.

    Args:
        layers: how many follow. heads: of attention; they share the language model's width evenly.
        source_length: tokens that the first vector becomes; as many as come out (`length`) without it.
    Raises:
        MismatchError: the heads do not divide `hidden_size`.
    """

    name = "fusion"

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
        super().__init__(embed_dim, hidden_size, length=length, layers=layers, heads=heads, source_length=source_length)
        self.others = nn.Linear(embed_dim, hidden_size)
        self.cross = Layer(hidden_size, heads)

    def source(self, embeds: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The first vector's tokens, after they have looked at the others."""
        vectors = embeds[:, None] if embeds.ndim == 2 else embeds
        asks = self.linear(vectors[:, 0]).unflatten(-1, (self.source_length, -1))
        answers = (
            torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device) if mask is None else mask.clone()
        )
        answers[:, 0] = ~answers[:, 1:].any(dim=1)
        return self.cross(asks, answers, self.others(vectors)), None
