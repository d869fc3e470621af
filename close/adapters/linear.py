"""Linear maps from text to image vectors."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from close.adapters.advised import Advised
from close.adapters.base import ADAPTERS, GapAdapter, Needs
from close.adapters.distribution import require_spread
from close.adapters.noise import RowNoise
from close.adapters.options import choice, number
from close.errors import RecipeError
from close.vectors.blocks import blocks
from close.vectors.moments import covariance, cross_covariance, paired_blocks, symmetric_power

__all__ = ["LinearMap"]

_METHODS = ("least_squares", "ridge", "procrustes")


@ADAPTERS.register("linear")
class LinearMap(GapAdapter):
    """The affine map that best carries text vectors onto the image vectors they belong to.

    Formula: unit(A·t + b), b = μ_v − A·μ_t; A minimises mean‖v − A·t − b‖² (+ λ‖A − A₀‖²), or is its best rotation.
    Paper: CLOSE, linear adapter (Gu et al., ICCV 2023): least squares; Procrustes: Schönemann (1966).
    Needs: paired.
    When: many captioned images like the test images are at hand (pairs from another domain cost CLOSE 12.5 CIDEr); before noise:
        [linear, {gaussian: …}].

    Args:
        method: `least_squares` (wants many more pairs than dimensions), `ridge`, or `procrustes` (a rotation; works with few).
        alpha: ridge's λ, in units of the mean variance Tr Σ_t/d; 1 unless given.
        toward: ridge's A₀: `zero` unless given (the nearest on average), or `identity` (keeps single texts apart; for large
            `alpha` it becomes `mean_shift`).
    """

    name = "linear"
    needs: ClassVar[Needs] = "paired"
    advice: ClassVar[tuple[Advised, ...]] = (Advised(single=20, options={"method": "ridge"}, drops_wording=True),)
    matrix: Tensor
    bias: Tensor

    def __init__(
        self,
        dim: int,
        *,
        method: str = "least_squares",
        alpha: float | None = None,
        toward: str | None = None,
        renorm: bool = False,
    ) -> None:
        options: dict[str, Any] = {"method": choice("linear", "method", method, _METHODS)}
        if method == "ridge":
            options["alpha"] = number("linear", "alpha", 1.0 if alpha is None else alpha, low=0)
            options["toward"] = choice("linear", "toward", toward or "zero", ("zero", "identity"))
        elif alpha is not None or toward is not None:
            raise RecipeError(f"linear: alpha and toward belong to method ridge, not {method}")
        super().__init__(dim, renorm=renorm, options=options)
        self.register_buffer("matrix", torch.eye(dim))
        self.register_buffer("bias", torch.zeros(dim))

    def learn(self, text: Any, image: Any) -> None:
        """A and b from the pairs' covariances."""
        text_mean, text_covariance = covariance(blocks(text))
        _, image_mean, cross = cross_covariance(paired_blocks(text, image))
        require_spread(self.name, "text", text_covariance.trace())
        matrix = self._solve(text_covariance, cross)
        self.matrix.copy_(matrix)
        self.bias.copy_(image_mean - text_mean @ matrix)

    def _solve(self, text: Tensor, cross: Tensor) -> Tensor:
        """Aᵀ, for rows: t @ Aᵀ."""
        if self.options["method"] == "procrustes":
            left, _, right = torch.linalg.svd(cross)
            return left @ right
        if self.options["method"] == "least_squares":
            return symmetric_power(text, -1) @ cross
        penalty = torch.eye(self.dim, dtype=text.dtype) * self.options["alpha"] * text.trace() / self.dim
        pull = penalty if self.options["toward"] == "identity" else torch.zeros_like(penalty)
        return symmetric_power(text + penalty, -1) @ (cross + pull)

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """A·x + b."""
        return x @ self.matrix.to(x) + self.bias.to(x)
