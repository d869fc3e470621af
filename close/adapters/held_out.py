"""How far a ridge may move vectors from where they are: as far as predicts groups of rows that were left out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from close.vectors.moments import symmetric_power

__all__ = ["STRENGTHS", "Ridge", "best_strength", "chosen", "held_out_cosines"]

NONE = 1e9
"""The λ that leaves everything where it is."""
FEWEST, LEFT_OUT = 10, 4096
"""Groups below which nothing is changed; rows of those that are left out in turn, about."""
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, NONE)
"""λ that are tried, in units of the mean variance; half a decade apart."""


@dataclass(frozen=True)
class Ridge:
    """Rows y from rows x by y − ȳ ≈ A(x − x̄), Aᵀ = (S + λvI)⁻¹(C + p·λvI), v = Tr S/d.

    Attributes:
        mean, target: (D,) x̄ and ȳ. within: (D, D) S, the covariance of x; across: (D, D) C, that of x with y; float64.
        rows: N that these were taken of. pull: p, 1 toward the identity, 0 toward zero.
    """

    mean: Tensor
    target: Tensor
    within: Tensor
    across: Tensor
    rows: int
    pull: float

    @property
    def unit(self) -> Tensor:
        """v, the mean variance, ()."""
        return self.within.trace() / len(self.within)

    def solve(self, strength: float) -> Tensor:
        """(D, D) Aᵀ, for rows: (x − x̄) @ Aᵀ."""
        penalty = torch.eye(len(self.within), dtype=self.within.dtype) * strength * self.unit
        return symmetric_power(self.within + penalty, -1) @ (self.across + self.pull * penalty)

    def change(self, solved: Tensor) -> float:
        """E‖Ax − x‖²/E‖x‖², x centred: 0 where nothing is changed."""
        moved = solved - torch.eye(len(solved), dtype=solved.dtype)
        return float(((self.within @ moved) * moved).sum() / self.within.trace())


def best_strength(
    ridge: Ridge,
    order: NDArray[np.int64],
    counts: NDArray[np.int64],
    read: Callable[[NDArray[np.int64]], tuple[Tensor, Tensor]],
) -> float:
    """The λ by which groups that are left out are predicted best; `NONE` of fewer than 10 groups.

    Args:
        order: (N,) rows, group by group. counts: (G,) how many each has.
        read: gives x and y, (K, c, D), of (K, c) rows, each line a whole group.
    """
    if len(counts) < FEWEST:
        return NONE
    blocks = (read(rows) for rows in _alike(order, counts))
    return STRENGTHS[chosen(held_out_cosines(ridge, blocks, STRENGTHS))]


def _alike(order: NDArray[np.int64], counts: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows (K, c) of groups of one size together; of all groups, or evenly of some, twenty or more."""
    every = max(1, min(len(order) // LEFT_OUT, len(counts) // 20))
    starts, counts = (np.cumsum(counts) - counts)[::every], counts[::every]
    for count in np.unique(counts):
        alike, size = starts[counts == count], max(1, LEFT_OUT // int(count))
        for at in range(0, len(alike), size):
            yield order[alike[at : at + size, None] + np.arange(count)]


def held_out_cosines(ridge: Ridge, groups: Iterable[tuple[Tensor, Tensor]], strengths: tuple[float, ...]) -> Tensor:
    """(G, len(strengths)) mean cosine of a group's y with what the ridge on all the *other* groups makes of its x, centred.

    What a ridge predicts for rows that it has not seen follows from what it predicts with them: for the rows g of a group, with
    residuals e and hat matrix H = 1/N + (X − x̄)((N − 1)·(S + λvI))⁻¹(X − x̄)ᵀ, it is y − (I − H_gg)⁻¹·e. The penalty stays
    that of all rows. H_gg's inverse is taken in the smaller of the two spaces.

    Args:
        ridge: fitted on all groups.
        groups: (K, c, D) x and y of K groups of c rows; any number of such blocks.
    """
    values, vectors = torch.linalg.eigh(ridge.within)
    values = values.clamp(min=0)
    step = vectors.T @ (ridge.across - ridge.pull * ridge.within)
    found = []
    for x, y in groups:
        x, y = x.double() - ridge.mean, y.double() - ridge.target
        rest = y - ridge.pull * x
        turned = x @ vectors
        middle = -y.sum(1, keepdim=True) / (ridge.rows - y.shape[1])  # the mean of the others' y
        wanted = F.normalize(y - middle, dim=-1)
        for strength in strengths:
            kept = 1 / (values + strength * ridge.unit)
            error = rest - (turned * kept) @ step
            ahead = y - _undone(turned, kept / (ridge.rows - 1), error, ridge.rows) - middle
            found.append((F.normalize(ahead, dim=-1) * wanted).sum(-1).mean(-1))
    lines = [torch.stack(found[at : at + len(strengths)], dim=1) for at in range(0, len(found), len(strengths))]
    return torch.cat(lines)


def _undone(turned: Tensor, weights: Tensor, error: Tensor, rows: int) -> Tensor:
    """(I − H_gg)⁻¹·e, (K, c, D); H_gg = 1/N + Z·diag(weights)·Zᵀ."""
    count, dim = turned.shape[1:]
    if count <= dim:
        own = torch.eye(count, dtype=turned.dtype) - (turned * weights) @ turned.mT - 1 / rows
        return torch.linalg.solve(own, error)
    wide = torch.cat((turned, torch.ones_like(turned[:, :, :1])), dim=2)  # Woodbury, the mean as one more direction
    inner = torch.diag(torch.cat((1 / weights, weights.new_tensor([float(rows)])))) - wide.mT @ wide
    return error + wide @ torch.linalg.solve(inner, wide.mT @ error)


def chosen(cosines: Tensor) -> int:
    """Which strength: the strongest within one standard error, over groups, of the best (Breiman et al., 1984).

    Args:
        cosines: (G, L), strengths rising.
    """
    means = cosines.mean(0)
    best = int(means.argmax())
    behind = cosines[:, best, None] - cosines
    error = behind.std(0) / len(cosines) ** 0.5
    near = behind.mean(0) <= error
    near[best] = True
    return int(near.nonzero().max())
