"""Unpaired alignment of distributions: per dimension, by their trace, by their whole covariance."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from close.adapters.advised import Advised
from close.adapters.base import ADAPTERS, GapAdapter, Needs
from close.adapters.noise import RowNoise
from close.adapters.options import number
from close.errors import DataError
from close.vectors.blocks import blocks
from close.vectors.moments import covariance, mean, oas, symmetric_power, variance

__all__ = ["MomentMatching", "ReAlign", "Transport", "require_spread"]


def require_spread(adapter: str, side: str, total: Tensor) -> None:
    """Refuse rows that are all the same.

    Args:
        total: the total variance, (), of unit rows.
    Raises:
        DataError: it is no more than rounding.
    """
    if total < 1e-12:
        raise DataError(
            f"adapter {adapter!r}: all {side} embeddings are the same vector; embeddings that differ are needed"
        )


@ADAPTERS.register("moments")
class MomentMatching(GapAdapter):
    """Mean and standard deviation of each dimension carried over from images to text.

    Formula: unit((t − μ_t)·σ_v/σ_t + μ_v), per dimension.
    Paper: the mean and std matching of AdaIN (Huang and Belongie, ICCV 2017), on embeddings.
    Needs: unpaired.
    When: many images without captions are at hand and single dimensions differ in scale; with few, `mean_shift` is safer.
    """

    name = "moments"
    needs: ClassVar[Needs] = "unpaired"
    trusted = 30
    text_mean: Tensor
    image_mean: Tensor
    ratio: Tensor

    def __init__(self, dim: int, *, renorm: bool = False) -> None:
        super().__init__(dim, renorm=renorm)
        self.register_buffer("text_mean", torch.zeros(dim))
        self.register_buffer("image_mean", torch.zeros(dim))
        self.register_buffer("ratio", torch.ones(dim))

    def learn(self, text: Any, image: Any) -> None:
        """Means, and the ratio of standard deviations; a dimension in which text is constant keeps its scale."""
        text_mean, text_variance = variance(blocks(text))
        image_mean, image_variance = variance(blocks(image))
        require_spread(self.name, "text", text_variance.sum())
        constant = text_variance < 1e-12 * text_variance.mean()
        self.text_mean.copy_(text_mean)
        self.image_mean.copy_(image_mean)
        self.ratio.copy_(torch.where(constant, 1.0, (image_variance / text_variance).sqrt()))

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """(x − μ_t)·σ_v/σ_t + μ_v."""
        return (x - self.text_mean.to(x)) * self.ratio.to(x) + self.image_mean.to(x)


@ADAPTERS.register("realign")
class ReAlign(GapAdapter):
    """Text centred on the images' mean, scaled to their total variance, and centred again on the sphere.

    Formula: e = unit(μ_v + s·(t − μ_t)), s = √(Tr Σ_v/Tr Σ_t); unit(e − mean(e) + μ_v).
    Paper: ReAlign: anchor, trace, centroid alignment (Yu et al., arXiv 2602.07026, 2026).
    Needs: unpaired.
    When: images without captions are at hand and their spread differs from the text's; no matrix, so few rows suffice.
    """

    name = "realign"
    needs: ClassVar[Needs] = "unpaired"
    trusted = 30
    advice: ClassVar[tuple[Advised, ...]] = (Advised(single=50, multiple=20),)
    text_mean: Tensor
    image_mean: Tensor
    scale: Tensor
    drift: Tensor

    def __init__(self, dim: int, *, renorm: bool = False) -> None:
        super().__init__(dim, renorm=renorm)
        for name in ("text_mean", "image_mean", "drift"):
            self.register_buffer(name, torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))

    def learn(self, text: Any, image: Any) -> None:
        """Means and trace ratio, then the mean of the aligned text, which the sphere has moved off μ_v."""
        text_mean, text_variance = variance(blocks(text))
        image_mean, image_variance = variance(blocks(image))
        require_spread(self.name, "text", text_variance.sum())
        self.text_mean.copy_(text_mean)
        self.image_mean.copy_(image_mean)
        self.scale.copy_((image_variance.sum() / text_variance.sum()).sqrt())
        self.drift.copy_(mean(self._on_sphere(block) for block in blocks(text)) - image_mean)

    def _on_sphere(self, x: Tensor) -> Tensor:
        return F.normalize(self.image_mean.to(x) + self.scale.to(x) * (x - self.text_mean.to(x)), dim=-1)

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """unit(μ_v + s·(x − μ_t)) − drift."""
        return self._on_sphere(x) - self.drift.to(x)


@ADAPTERS.register("transport")
class Transport(GapAdapter):
    """Mean and whole covariance carried over: the least movement that makes one Gaussian of the other.

    Formula: unit(μ_v + A(t − μ_t)), A = Σ_t^(−1/2)·(Σ_t^(1/2)·Σ_v·Σ_t^(1/2))^(1/2)·Σ_t^(−1/2).
    Paper: Gaussian optimal transport (Knott and Smith, 1984; Flamary et al., arXiv 1905.10155); cf. CORAL (Sun et al., 2016).
    Needs: unpaired.
    When: images without captions, many more than dimensions; it closes the Fréchet distance that the simpler ones leave.

    Args:
        shrinkage: λ in (1 − λ)·Σ + λ·(Tr Σ/d)·I for both covariances; 1 leaves trace scaling alone, as in ReAlign. Unless
            given, each takes what suits its number of rows (OAS: Chen et al., IEEE Trans. Signal Processing, 2010).
    """

    name = "transport"
    needs: ClassVar[Needs] = "unpaired"
    trusted = 100
    text_mean: Tensor
    image_mean: Tensor
    matrix: Tensor

    def __init__(self, dim: int, *, shrinkage: float | None = None, renorm: bool = False) -> None:
        given = {} if shrinkage is None else {"shrinkage": number("transport", "shrinkage", shrinkage, low=0, high=1)}
        super().__init__(dim, renorm=renorm, options=given)
        self.shrinkage = shrinkage
        self.register_buffer("text_mean", torch.zeros(dim))
        self.register_buffer("image_mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))

    def learn(self, text: Any, image: Any) -> None:
        """Both means, and A."""
        text_mean, text_covariance = covariance(blocks(text))
        image_mean, image_covariance = covariance(blocks(image))
        require_spread(self.name, "text", text_covariance.trace())
        source = self._shrunk(text_covariance, len(text))
        target = self._shrunk(image_covariance, len(image))
        root, inverse = symmetric_power(source, 0.5), symmetric_power(source, -0.5)
        middle = symmetric_power(root @ target @ root, 0.5)
        self.text_mean.copy_(text_mean)
        self.image_mean.copy_(image_mean)
        self.matrix.copy_(inverse @ middle @ inverse)

    def _shrunk(self, matrix: Tensor, rows: int) -> Tensor:
        even = torch.eye(self.dim, dtype=matrix.dtype) * matrix.trace() / self.dim
        return torch.lerp(matrix, even, oas(matrix, rows) if self.shrinkage is None else self.shrinkage)

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """μ_v + A(x − μ_t); A is symmetric."""
        return (x - self.text_mean.to(x)) @ self.matrix.to(x) + self.image_mean.to(x)
