"""Layers for training in float32 on the CPU, that give torch's own results sooner.

On the CPU torch hands a float32 product to MKL, which leaves AVX-512 unused on AMD's processors: oneDNN is twice as fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from close.packing import can_pack, product

__all__ = ["LeanLinear", "make_lean"]


class _Linear(torch.autograd.Function):
    """x Wᵀ + b and its gradients, by oneDNN."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        return product(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        rows = grad.flatten(0, -2)
        return (
            product(grad, weight.t()) if ctx.needs_input_grad[0] else None,
            product(rows.t(), input.flatten(0, -2).t()) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


class LeanLinear(nn.Linear):
    """`nn.Linear` whose products in float32 are oneDNN's, forward and backward."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        is_float = input.dtype == torch.float32 and input.is_cpu and not torch.is_autocast_enabled("cpu")
        if is_float and input.ndim > 1 and input.numel():
            return _Linear.apply(input, self.weight, self.bias)
        return super().forward(input)


def make_lean(model: nn.Module) -> None:
    """Let all linear layers of a model be `LeanLinear` where that may be faster, in place; weights, names and ties stay."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return
    for module in model.modules():
        if type(module) is nn.Linear and can_pack(module.weight):
            module.__class__ = LeanLinear
