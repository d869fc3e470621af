"""Each modality seen from its own mean."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from close.adapters.advised import Advised
from close.adapters.base import ADAPTERS, GapAdapter, Needs
from close.adapters.noise import RowNoise
from close.vectors.blocks import blocks
from close.vectors.moments import mean

__all__ = ["Centring"]


@ADAPTERS.register("centring")
class Centring(GapAdapter):
    """Each modality's own mean is taken off, in training and at test time.

    Formula: unit(t − μ_t) in training, unit(v − μ_v) at test time; [centring, {gaussian: {var: 0.016}}] is C3.
    Paper: C3 (Zhang et al., Connect, Collapse, Corrupt, ICLR 2024).
    Needs: unpaired.
    When: some images without captions are at hand, and the test images are like them.
    """

    name = "centring"
    needs: ClassVar[Needs] = "unpaired"
    trusted = 30
    advice: ClassVar[tuple[Advised, ...]] = (Advised(single=60, multiple=10),)
    text_mean: Tensor
    image_mean: Tensor

    def __init__(self, dim: int, *, renorm: bool = False) -> None:
        super().__init__(dim, renorm=renorm)
        self.register_buffer("text_mean", torch.zeros(dim))
        self.register_buffer("image_mean", torch.zeros(dim))

    def learn(self, text: Any, image: Any) -> None:
        """The two means."""
        self.text_mean.copy_(mean(blocks(text)))
        self.image_mean.copy_(mean(blocks(image)))

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """x − μ_t."""
        return x - self.text_mean.to(x)

    def image(self, x: Tensor) -> Tensor:
        """x − μ_v."""
        return x - self.image_mean.to(x)
