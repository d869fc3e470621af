"""Shifts of the text vectors by one fixed vector."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from close.adapters.advised import Advised
from close.adapters.base import ADAPTERS, GapAdapter, Needs
from close.adapters.noise import RowNoise
from close.adapters.options import number, whole_number
from close.vectors.blocks import blocks
from close.vectors.moments import mean

__all__ = ["MeanShift", "RandomShift"]


@ADAPTERS.register("mean_shift")
class MeanShift(GapAdapter):
    """Text vectors moved by the difference of the two means.

    Formula: unit(t + s·Δ), Δ = μ_v − μ_t.
    Paper: Liang et al., Mind the Gap (NeurIPS 2022); CLOSE, translation study (Gu et al., ICCV 2023).
    Needs: unpaired.
    When: some images without captions are at hand; usually before noise: [mean_shift, {gaussian: …}].

    Args:
        scale: s; 1 closes the gap, −1 doubles it (CLOSE's −Δ study).
    """

    name = "mean_shift"
    needs: ClassVar[Needs] = "unpaired"
    trusted = 30
    advice: ClassVar[tuple[Advised, ...]] = (Advised(single=40, multiple=30),)
    shift: Tensor

    def __init__(self, dim: int, *, scale: float = 1.0, renorm: bool = False) -> None:
        super().__init__(dim, renorm=renorm, options={"scale": number("mean_shift", "scale", scale)})
        self.scale = scale
        self.register_buffer("shift", torch.zeros(dim))

    def learn(self, text: Any, image: Any) -> None:
        """Δ from the two means."""
        self.shift.copy_(mean(blocks(image)) - mean(blocks(text)))

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """x + s·Δ."""
        return x + self.scale * self.shift.to(x)


@ADAPTERS.register("random_shift")
class RandomShift(GapAdapter):
    """Text vectors moved by a fixed vector of a random direction.

    Formula: unit(t + r·u), u one random unit vector, the same for all rows.
    Paper: CLOSE, translation study (Gu et al., ICCV 2023), with norms from 0.2 to 2.
    Needs: nothing.
    When: to study how sensitive a task is to a shift; not a way across the gap.

    Args:
        norm: r, how far; CLOSE tried 0.2 to 2.
        seed: of the direction.
    """

    name = "random_shift"
    shift: Tensor

    def __init__(self, dim: int, *, norm: float, seed: int = 0, renorm: bool = False) -> None:
        options = {
            "norm": number("random_shift", "norm", norm, low=0),
            "seed": whole_number("random_shift", "seed", seed),
        }
        super().__init__(dim, renorm=renorm, options=options)
        generator = torch.Generator("cpu").manual_seed(seed)  # named, because models are built on the meta device
        direction = F.normalize(torch.randn(dim, generator=generator, device="cpu"), dim=0)
        self.register_buffer("shift", norm * direction)

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """x + r·u."""
        return x + self.shift.to(x)
