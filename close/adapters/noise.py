"""Random numbers that belong to a row, not to a moment.

Noise drawn from (seed, epoch, row id) is the same whatever the batch, the device, the number of processes or the point at
which a run was resumed. A counter-based generator gives that without any state: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)
mixes (row seed, counter) into 64 random bits, vectorised over the batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["RowNoise", "row_seeds", "vector_seeds"]

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _wrapped(number: int) -> int:
    """As a signed 64-bit integer."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def _mixed(number: int) -> int:
    """`_mix` of one number: made into a tensor, it would have to be copied to the device, and be waited for."""
    low = number % (1 << 64)
    low = (low ^ (low >> 30)) * _MIX_1 % (1 << 64)
    low = (low ^ (low >> 27)) * _MIX_2 % (1 << 64)
    return _wrapped(low ^ (low >> 31))


def row_seeds(seed: int, epoch: int, rows: Tensor) -> Tensor:
    """One 64-bit seed a row: a hash of (seed, epoch, row id).

    Args:
        rows: (B,) int64 row ids.
    Returns:
        (B,) int64.
    """
    start, turn = (_mixed((number + 1) * _GAMMA) for number in (seed, epoch))
    return _mix(_mix(rows ^ start) + turn)


def vector_seeds(seeds: Tensor, count: int, start: int = 0) -> Tensor:
    """A seed for each of several vectors of a row; number 0 has the row's own.

    Args:
        seeds: (B,) int64 of the rows. start: number of the first vector.
    Returns:
        (B, count) int64.
    """
    numbers = torch.arange(start, start + count, dtype=torch.int64, device=seeds.device)
    own = seeds.to(torch.int64)[:, None]
    return torch.where(numbers == 0, own, _mix(own + _mix(numbers * _GAMMA)))


class RowNoise:
    """Draws for a batch of rows; each call continues every row's own stream.

    Args:
        seeds: (B,) int64, one a row (`row_seeds`).
    """

    def __init__(self, seeds: Tensor) -> None:
        self.seeds = seeds.to(torch.int64)
        self._drawn = 0

    def uniform(self, width: int) -> Tensor:
        """(B, width) float32, uniform in the open interval (0, 1)."""
        # what was drawn is not added to the counter, which torch.compile would fold beyond 64 bits
        start = self.seeds + _wrapped(self._drawn * _GAMMA)
        self._drawn += width
        counter = torch.arange(1, width + 1, dtype=torch.int64, device=self.seeds.device)
        bits = _shift(_mix(start[:, None] + counter * _GAMMA), 41)  # 23 bits: exact in float32 with the half step
        return (bits.to(torch.float32) + 0.5) * 2.0**-23

    def normal(self, width: int) -> Tensor:
        """(B, width) float32, standard normal, by Box and Muller (1958)."""
        half = (width + 1) // 2
        radius = torch.sqrt(-2.0 * torch.log(self.uniform(half)))
        angle = 2.0 * math.pi * self.uniform(half)
        return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :width]
