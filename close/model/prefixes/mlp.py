"""ClipCap's way in before a language model that is trained: two layers and a tanh."""

from __future__ import annotations

from torch import Tensor, nn

from close.model.prefixes.base import PREFIXES, Prefix

__all__ = ["MlpPrefix"]

WIDEST = 1_000_000
"""Inner units at most; ClipCap's own default is 3,840 for GPT-2 and 10 tokens."""


@PREFIXES.register("mlp")
class MlpPrefix(Prefix):
    """Two linear layers with a tanh between them. ClipCap (arXiv 2111.09734).

    Its authors use it where the language model is trained too; `transformer` where it is frozen.

    Args:
        width: units between the layers; half of length · hidden_size without it, as ClipCap has it.
    """

    name = "mlp"

    def __init__(self, embed_dim: int, hidden_size: int, *, length: int = 10, width: int | None = None) -> None:
        super().__init__(embed_dim, hidden_size, length=length)
        inner = max(1, length * hidden_size // 2) if width is None else self.whole("width", width, WIDEST)
        self.inner = nn.Linear(embed_dim, inner)
        self.outer = nn.Linear(inner, length * hidden_size)

    def forward(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, D) → (B, length, hidden)."""
        return self.outer(self.inner(embeds).tanh()).unflatten(-1, (self.length, -1))
