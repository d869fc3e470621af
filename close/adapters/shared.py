"""What captions of one image have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

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
from close.errors import DataError
from close.vectors.groups import rows_by_label
from close.vectors.moments import cross_covariance

__all__ = ["Shared", "group_blocks"]


FEW = 100
"""Groups below which it is said that they are few (experiments/shared)."""


@ADAPTERS.register("shared")
class Shared(GapAdapter):
    """Each text vector becomes what the other captions of its image are expected to be: its wording goes, its content stays.

    Formula: unit(μ_t + A(t − μ_t)), A = (Σ_g + λvI)·(Σ_t + λvI)⁻¹, v = Tr Σ_t/d; Σ_g: covariance of two captions of one image.
    Paper: a class's posterior mean in probabilistic LDA (Ioffe, ECCV 2006), the class being an image's captions; as a way across
        the gap it is this project's own (experiments/gap/README.md, experiments/shared/README.md).
    Needs: groups.
    When: several captions of an image, 100 images or more, and a caption is its own target (`captions: single`); always with
        noise behind it, and a shift where there are images:
        [shared, {mean_shift: {fit: {image: V}}}, {gaussian: {cosine: 0.84}}].

    A decoder that is trained to say the very caption it is shown learns to lean on its wording, which no image has. This takes
    the wording away before it can be learnt, as `linear` onto pairs does, without any image. What few groups say of the
    wording is mostly chance, so they are trusted less: λ pulls A toward the identity, the less data the more.

    Args:
        alpha: λ, of ridge regression from a caption to the mean of its image's others, in units of the mean variance.
            Unless given, the one by which captions of groups left out are predicted best from each other; fewer than 10 groups
            change nothing.
        toward: what λ pulls to: `identity` unless given, or `zero` (A = Σ_g·(Σ_t + λvI)⁻¹, with λ = 0.01 unless given), as all
            were before, which harms where groups are few.
    """

    name = "shared"
    needs: ClassVar[Needs] = "groups"
    trusted = 10
    advice: ClassVar[tuple[Advised, ...]] = (
        Advised(single=30, drops_wording=True),
        Advised(single=10, then="mean_shift", drops_wording=True),
    )
    mean: Tensor
    matrix: Tensor

    def __init__(
        self, dim: int, *, alpha: float | None = None, toward: str | None = None, renorm: bool = False
    ) -> None:
        options: dict[str, Any] = {}
        if toward is not None:
            options["toward"] = choice("shared", "toward", toward, ("identity", "zero"))
        if alpha is not None or toward == "zero":
            options = {"alpha": number("shared", "alpha", 0.01 if alpha is None else alpha, low=0)} | options
        super().__init__(dim, renorm=renorm, options=options)
        self.alpha: float | None = options.get("alpha")
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))

    def learn(self, text: Any, image: Any) -> None:
        """μ_t and Aᵀ, from the texts that are not alone in their group."""
        pairs = ((own, torch.cat((own, others), dim=1)) for own, others in group_blocks(text, text.groups))
        mean, _, both = cross_covariance(pairs)  # in one pass over rows that lie anywhere
        within, across = both.split(self.dim, dim=1)
        require_spread(self.name, "text", within.trace())
        order, counts = _groups_of_several(text.groups)
        ridge = Ridge(mean, mean, within, across, int(counts.sum()), float(self.options.get("toward") != "zero"))

        def read(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
            own = torch.as_tensor(text[rows.reshape(-1)]).double().reshape(*rows.shape, -1)
            return own, (own.sum(1, keepdim=True) - own) / (rows.shape[1] - 1)

        alpha = best_strength(ridge, order, counts, read) if self.alpha is None else self.alpha
        matrix = ridge.solve(alpha)
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)
        self.learnt = {"groups": len(counts), "alpha": alpha, "change": round(ridge.change(matrix), 4)}
        self.told, self.cautions = self._line(len(counts), alpha, self.learnt["change"])
        self.options |= {"alpha": alpha, "toward": self.options.get("toward", "identity")}

    def _line(self, groups: int, alpha: float, change: float) -> tuple[str, bool]:
        """A line on what was learnt, and whether it is a warning."""
        told = f"{groups:,} groups, alpha {alpha:g}, which changes {change:.0%} of the texts' variance"
        lines = [told]
        if groups < FEW:
            lines.append(f"few say little of the wording: {FEW} groups bring something, 300 most of it")
        if self.alpha is not None and "toward" not in self.options:
            lines.append("alpha pulls toward the identity now: toward zero, as it did, with `toward: zero`")
        return "; ".join(lines), len(lines) > 1

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
    order, counts = _groups_of_several(groups)
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


def _groups_of_several(labels: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the groups that have two or more, group by group, and how many each has."""
    order, bounds = rows_by_label(labels)
    counts = np.diff(bounds)
    order = order[np.repeat(counts > 1, counts)]
    counts = counts[counts > 1]
    if len(counts) < 2:
        raise DataError(
            f"adapter 'shared': {len(counts)} groups have two texts or more, at least 2 are needed: rows of captions of one "
            "image share their 'group' (`data-gen paraphrase` writes such groups)"
        )
    return order, counts
