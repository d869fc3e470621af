"""What captions of one image have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from close.adapters.advised import Advised
from close.adapters.base import ADAPTERS, GapAdapter, Needs
from close.adapters.distribution import require_spread
from close.adapters.noise import RowNoise
from close.adapters.options import number
from close.errors import DataError
from close.vectors.groups import rows_by_label
from close.vectors.moments import cross_covariance, symmetric_power

__all__ = ["Shared", "group_blocks"]


@ADAPTERS.register("shared")
class Shared(GapAdapter):
    """Each text vector becomes what the other captions of its image are expected to be: its wording goes, its content stays.

    Formula: unit(μ_t + A(t − μ_t)), A = Σ_g·(Σ_t + λ·(Tr Σ_t/d)·I)⁻¹; Σ_g: covariance of two captions of one image.
    Paper: a class's posterior mean in probabilistic LDA (Ioffe, ECCV 2006), the class being an image's captions; as a way across
        the gap it is this project's own (experiments/gap/README.md).
    Needs: groups.
    When: several captions of an image, and a caption is its own target (`captions: single`); always with noise behind it, and a
        shift where there are images: [shared, {mean_shift: {fit: {image: V}}}, {gaussian: {cosine: 0.75}}].

    A decoder that is trained to say the very caption it is shown learns to lean on its wording, which no image has. This takes
    the wording away before it can be learnt, as `linear` onto pairs does, without any image.

    Args:
        alpha: λ, of ridge regression from a caption to the mean of its image's others.
    """

    name = "shared"
    needs: ClassVar[Needs] = "groups"
    advice: ClassVar[tuple[Advised, ...]] = (
        Advised(single=30, drops_wording=True),
        Advised(single=10, then="mean_shift", drops_wording=True),
    )
    mean: Tensor
    matrix: Tensor

    def __init__(self, dim: int, *, alpha: float = 0.01, renorm: bool = False) -> None:
        super().__init__(dim, renorm=renorm, options={"alpha": number("shared", "alpha", alpha, low=0)})
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))

    def learn(self, text: Any, image: Any) -> None:
        """μ_t and Aᵀ, from the texts that are not alone in their group."""
        pairs = ((own, torch.cat((own, others), dim=1)) for own, others in group_blocks(text, text.groups))
        mean, _, both = cross_covariance(pairs)  # in one pass over rows that lie anywhere
        within, across = both.split(self.dim, dim=1)
        require_spread(self.name, "text", within.trace())
        ridge = torch.eye(self.dim, dtype=within.dtype) * self.options["alpha"] * within.trace() / self.dim
        self.mean.copy_(mean)
        self.matrix.copy_(symmetric_power(within + ridge, -1) @ across)

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """μ_t + A(x − μ_t)."""
        mean = self.mean.to(x)
        return (x - mean) @ self.matrix.to(x) + mean


def group_blocks(text: Any, groups: Any, size: int = 8192) -> Iterator[tuple[Tensor, Tensor]]:
    """Texts that share their group, and the mean of the others of it: blocks of whole groups, (B, D) float64 each.

    Args:
        text: (N, D) rows that take an array of row numbers. groups: (N,) labels.
        size: rows of a block, as long as no group is larger.
    Raises:
        DataError: fewer than two groups have two texts.
    """
    order, bounds = rows_by_label(groups)
    counts = np.diff(bounds)
    order = order[np.repeat(counts > 1, counts)]
    counts = counts[counts > 1]
    if len(counts) < 2:
        raise DataError(
            f"adapter 'shared': {len(counts)} groups have two texts or more, at least 2 are needed: rows of captions of one "
            "image share their 'group' (`data-gen paraphrase` writes such groups)"
        )
    ends = np.cumsum(counts)
    first = row = 0
    while first < len(counts):
        last = max(first + 1, int(np.searchsorted(ends, row + size, side="right")))
        rows = torch.as_tensor(text[order[row : ends[last - 1]]]).double()
        group = torch.from_numpy(np.repeat(np.arange(last - first), counts[first:last]))
        total = torch.zeros(last - first, rows.shape[1], dtype=torch.float64).index_add_(0, group, rows)
        others = torch.from_numpy(counts[first:last] - 1)[group, None]
        yield rows, (total[group] - rows) / others
        first, row = last, int(ends[last - 1])
