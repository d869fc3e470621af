"""Draws of a batch, each row's its own: what else is in the batch, and what was drawn before, changes none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
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
        rows, *others = args
        if not self.generators:
            self.generators = [torch.Generator(rows.device).manual_seed(seed) for seed in self.seeds]
        parts = zip(rows.split(len(rows) // len(self.seeds)), self.generators, strict=True)
        return torch.cat([func(own, *others, **(kwargs or {}), generator=generator) for own, generator in parts])
