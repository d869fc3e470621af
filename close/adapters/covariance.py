"""Noise shaped like the gap itself."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from close.adapters.advised import Advised
from close.adapters.base import ADAPTERS, GapAdapter, Needs
from close.adapters.noise import RowNoise
from close.adapters.options import number
from close.vectors.moments import covariance, paired_blocks, symmetric_power

__all__ = ["CovarianceNoise"]


@ADAPTERS.register("covariance")
class CovarianceNoise(GapAdapter):
    """The mean shift, and noise with the covariance of what remains of the gap between pairs.

    Formula: unit(t + Δ + c·N(0, Σ)), Σ = Cov(v − t); CLOSE adds isotropic noise: [covariance, {gaussian: …}].
    Paper: CLOSE, structured noise (Gu et al., ICCV 2023): c = 1 in the formula, 3 in the official code behind its numbers.
    Needs: paired.
    When: captioned images like the test images are at hand; [linear, covariance] is the map and noise like its residual.

    Args:
        scale: c, the noise's size; 1 is that of the gap's rest.
    """

    name = "covariance"
    needs: ClassVar[Needs] = "paired"
    trusted = 300
    advice: ClassVar[tuple[Advised, ...]] = (Advised(),)
    shift: Tensor
    root: Tensor

    def __init__(self, dim: int, *, scale: float = 1.0, renorm: bool = False) -> None:
        options = {"scale": number("covariance", "scale", scale, low=0)}
        super().__init__(dim, renorm=renorm, options=options)
        self.scale = scale
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("root", torch.zeros(dim, dim))

    def learn(self, text: Any, image: Any) -> None:
        """Δ, and the symmetric root of Σ."""
        shift, sigma = covariance(v - t for t, v in paired_blocks(text, image))
        self.shift.copy_(shift)
        self.root.copy_(symmetric_power(sigma, 0.5))

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """x + Δ, and c·N(0, Σ) in training."""
        x = x + self.shift.to(x)
        return x if noise is None else x + self.scale * noise.normal(self.dim).to(x) @ self.root.to(x)
