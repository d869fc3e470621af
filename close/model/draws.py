"""Draws of a batch, each row's its own: what else is in the batch, and what was drawn before, changes none of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["RowDraws"]


class RowDraws(TorchFunctionMode):
    """`with RowDraws(seeds):` draws for each of B inputs by a generator of its own; torch's stays where it is.

    It stands in for `torch.multinomial`, by which transformers draws tokens and beams, in this thread.

    Args:
        seeds: of the inputs; rows that are drawn for belong to them in order, as many to each.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__()
        self.seeds, self.generators = seeds, list[torch.Generator]()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not torch.multinomial:
            return func(*args, **(kwargs or {}))
        return self._drawn(*args, **(kwargs or {}))

    def _drawn(self, rows: Tensor, num_samples: int) -> Tensor:
        """What `torch.multinomial` draws without replacement, of all rows at once: the largest of the shares over noise.

        Raises:
            RuntimeError: a row holds no probabilities.
        """
        low, high = rows.aminmax()
        if not (low >= 0) & (high < math.inf):  # NaN is neither; one look, for which an accelerator is waited for
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if not self.generators:
            self.generators = [torch.Generator(rows.device).manual_seed(seed) for seed in self.seeds]
        noise = torch.empty_like(rows)
        for own, generator in zip(noise.split(len(rows) // len(self.seeds)), self.generators, strict=True):
            own.exponential_(generator=generator)
        return torch.div(rows, noise, out=noise).topk(num_samples).indices
