"""No adapter at all, and Gaussian noise."""

from __future__ import annotations

import math

from torch import Tensor

from close.adapters.base import ADAPTERS, GapAdapter
from close.adapters.noise import RowNoise
from close.adapters.options import exactly_one, number

__all__ = ["Gaussian", "Identity", "cosine_to_std", "std_to_cosine"]


def cosine_to_std(cosine: float, dim: int) -> float:
    """Noise std whose unit vectors keep `cosine` with their noised selves: w = √((1/c² − 1)/d)."""
    return math.sqrt((1.0 / cosine**2 - 1.0) / dim)


def std_to_cosine(std: float, dim: int) -> float:
    """The portable cosine of a noise std on unit vectors: 1/√(1 + w²d)."""
    return 1.0 / math.sqrt(1.0 + std**2 * dim)


@ADAPTERS.register("none")
class Identity(GapAdapter):
    """No adapter: text vectors in training, image vectors at test time, as they are.

    Formula: t in training, v at test time.
    Paper: the row without noise of CLOSE (Gu et al., ICCV 2023).
    Needs: nothing.
    When: as the baseline that shows what the gap costs.
    """

    name = "none"


@ADAPTERS.register("gaussian")
class Gaussian(GapAdapter):
    """Isotropic Gaussian noise on what a model is trained on, texts as a rule.

    Formula: unit(t + w·N(0, I)); given a cosine c, w = ‖t‖·√((1/c² − 1)/d).
    Paper: CLOSE (Gu et al., ICCV 2023); CapDec (Nukrai et al., Findings of EMNLP 2022).
    Needs: nothing.
    When: always a good start, with any data; alone or last in a chain.

    Papers quote the strength as a standard deviation or as a variance, and its effect grows with √d. The portable unit is the
    approximate cosine between a vector and its noised self, c = ‖x‖/√(‖x‖² + w²d): given a `cosine`, w follows each row's norm.

    Args:
        std: w, the noise's standard deviation in each dimension; exactly one of std, var and cosine is given.
        var: w², as some papers have it.
        cosine: between a vector and its noised self, whatever the dimension; CLOSE's default is 0.41 (w = 0.08 at d = 768).
    """

    name = "gaussian"
    noise_alone = True

    def __init__(
        self,
        dim: int,
        *,
        std: float | None = None,
        var: float | None = None,
        cosine: float | None = None,
        renorm: bool = False,
    ) -> None:
        key, value = exactly_one("gaussian", "{cosine: 0.41}", std=std, var=var, cosine=cosine)
        value = number(
            "gaussian", key, value, low=1e-6 if key == "cosine" else 0, high=1 if key == "cosine" else math.inf
        )
        super().__init__(dim, renorm=renorm, options={key: value})
        self.std = {"std": value, "var": math.sqrt(value)}.get(key) if key != "cosine" else cosine_to_std(value, dim)
        self.follows_norm = key == "cosine"

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """x + w·N(0, I) in training, x otherwise."""
        if noise is None or not self.std:
            return x
        std = self.std * x.norm(dim=-1, keepdim=True) if self.follows_norm else self.std
        return x + std * noise.normal(self.dim).to(x)
