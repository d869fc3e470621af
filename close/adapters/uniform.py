"""Noise drawn evenly from a ball."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from close.adapters.base import ADAPTERS, GapAdapter
from close.adapters.noise import RowNoise
from close.adapters.options import exactly_one, number

__all__ = ["UniformBall"]


@ADAPTERS.register("uniform")
class UniformBall(GapAdapter):
    """Noise drawn evenly from a ball, on what a model is trained on; no draw is larger than its radius.

    Formula: unit(t + r·U^(1/d)·g/‖g‖), g ~ N(0, I), U ~ U(0, 1); given a cosine c, r = ‖t‖·√((1/c² − 1)·(d + 2)/d).
    Paper: CapDec, its uniform variant (Nukrai et al., Findings of EMNLP 2022).
    Needs: nothing.
    When: to compare with Gaussian noise; in high dimension the two all but agree at equal cosine.

    Args:
        radius: r, of the ball; exactly one of radius and cosine is given.
        cosine: between a vector and its noised self, as in Gaussian noise.
    """

    name = "uniform"
    noise_alone = True

    def __init__(
        self, dim: int, *, radius: float | None = None, cosine: float | None = None, renorm: bool = False
    ) -> None:
        key, value = exactly_one("uniform", "{radius: 0.13}", radius=radius, cosine=cosine)
        if key == "cosine":
            value = number("uniform", "cosine", value, low=1e-6, high=1)
            size = math.sqrt((value**-2 - 1) * (dim + 2) / dim)
        else:
            size = number("uniform", "radius", value, low=0)
        super().__init__(dim, renorm=renorm, options={key: value})
        self.radius = size
        self.follows_norm = key == "cosine"

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """x + a point of the ball in training, x otherwise."""
        if noise is None:
            return x
        direction = F.normalize(noise.normal(self.dim), dim=-1)
        radius = self.radius * x.norm(dim=-1, keepdim=True) if self.follows_norm else self.radius
        return x + radius * (noise.uniform(1) ** (1 / self.dim) * direction).to(x)
