"""Linear maps from text to image vectors."""

from __future__ import annotations

from typing import Any, ClassVar
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from close.adapters.advised import Advised
from close.adapters.base import ADAPTERS, GapAdapter, Needs
from close.adapters.distribution import require_spread
from close.adapters.held_out import Ridge, best_strength
from close.adapters.noise import RowNoise
from close.adapters.options import choice, number
from close.errors import RecipeError
from close.vectors.blocks import blocks
from close.vectors.groups import rows_by_label
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
        method: `least_squares` (wants many more pairs than dimensions), `ridge`, or `procrustes` (a rotation).
        alpha: ridge's λ, in units of the mean variance Tr Σ_t/d; unless given, the one by which pairs that are left out are
            predicted best, as `shared` chooses it (toward zero: 1).
        toward: ridge's A₀: `identity`, of which few pairs leave `mean_shift`, or `zero`, the nearest on average. Unless given,
            identity, and zero where alpha is given.
    """

    name = "linear"
    needs: ClassVar[Needs] = "paired"
    advice: ClassVar[tuple[Advised, ...]] = (
        Advised(single=20, options={"method": "ridge"}, drops_wording=True, aligns=True),
    )
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
            if alpha is not None or toward == "zero":
                options["alpha"] = number("linear", "alpha", 1.0 if alpha is None else alpha, low=0)
            pull = toward or ("identity" if alpha is None else "zero")
            options["toward"] = choice("linear", "toward", pull, ("zero", "identity"))
        elif alpha is not None or toward is not None:
            raise RecipeError(f"linear: alpha and toward belong to method ridge, not {method}")
        super().__init__(dim, renorm=renorm, options=options)
        self.alpha: float | None = options.get("alpha")
        fewest = {"least_squares": 4 * dim, "procrustes": dim, "ridge": 300}
        self.trusted = fewest[method]
        self.register_buffer("matrix", torch.eye(dim))
        self.register_buffer("bias", torch.zeros(dim))

    def learn(self, text: Any, image: Any) -> None:
        """A and b from the pairs' covariances."""
        text_mean, text_covariance = covariance(blocks(text))
        _, image_mean, cross = cross_covariance(paired_blocks(text, image))
        require_spread(self.name, "text", text_covariance.trace())
        ridge = Ridge(
            text_mean, image_mean, text_covariance, cross, len(text), float(self.options.get("toward") == "identity")
        )
        matrix = self._solve(ridge, text, image)
        self.matrix.copy_(matrix)
        self.bias.copy_(image_mean - text_mean @ matrix)

    def _solve(self, ridge: Ridge, text: Any, image: Any) -> Tensor:
        """Aᵀ, for rows: t @ Aᵀ."""
        if self.options["method"] == "procrustes":
            left, _, right = torch.linalg.svd(ridge.across)
            return left @ right
        if self.options["method"] == "least_squares":
            return symmetric_power(ridge.within, -1) @ ridge.across
        alpha = self._chosen(ridge, text, image) if self.alpha is None else self.alpha
        self.options["alpha"] = alpha
        matrix = ridge.solve(alpha)
        self.learnt = {"pairs": ridge.rows, "alpha": alpha, "change": round(ridge.change(matrix), 4)}
        self.told = (
            f"{ridge.rows:,} pairs, alpha {alpha:g}, which changes {self.learnt['change']:.0%} of the texts' variance"
        )
        return matrix

    def _chosen(self, ridge: Ridge, text: Any, image: Any) -> float:
        """λ, by leaving images out, each with all its captions."""
        names = np.concatenate([[crc32(row.tobytes()) for row in block.numpy()] for block in blocks(image)])
        order, bounds = rows_by_label(names)

        def read(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            text_rows, image_rows = (torch.as_tensor(side[rows.reshape(-1)]) for side in (text, image))
            return text_rows.reshape(*rows.shape, -1), image_rows.reshape(*rows.shape, -1)

        return best_strength(ridge, order, np.diff(bounds), read)

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """A·x + b."""
        return x @ self.matrix.to(x) + self.bias.to(x)
