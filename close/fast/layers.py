"""Layers for training on the CPU, that give torch's own results sooner.

On the CPU torch hands a float32 product to MKL, which leaves AVX-512 unused on AMD's processors: oneDNN is twice as fast. And it
draws a whole number for every element that dropout may drop, where bfloat16 has 16 bits. GPT-2's GELU is eight passes over the
widest activations, where torch has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from close.fast.packing import can_pack, product
from close.fast.probe import is_on

__all__ = ["FastConv1D", "FastDropout", "FastGelu", "FastLinear", "fast_layers", "plain_layers"]


class _Linear(torch.autograd.Function):
    """x Wᵀ + b and its gradients, by oneDNN."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        return product(input, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        grad = grad.contiguous()
        rows = grad.flatten(0, -2)
        # rows that lie apart, as one vector of each set does, have no kernel there: a thousand times slower
        read = input.flatten(0, -2).contiguous()
        return (
            product(grad, weight.t()) if ctx.needs_input_grad[0] else None,
            product(rows.t(), read.t()) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


class FastLinear(nn.Linear):
    """`nn.Linear` whose products in float32 are oneDNN's, forward and backward."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return (
            _Linear.apply(input, self.weight, self.bias) if _multiplies(input, self.weight) else super().forward(input)
        )


class FastConv1D(Conv1D):
    """The same for GPT-2's linear layer, whose weight is (in, out)."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        return _Linear.apply(x, self.weight.t(), self.bias) if _multiplies(x, self.weight) else super().forward(x)


def _multiplies(input: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is asked for a product of these."""
    is_float = input.dtype == weight.dtype == torch.float32 and input.is_cpu and not torch.is_autocast_enabled("cpu")
    return is_float and input.ndim > 1 and input.numel() > 0


class FastGelu(NewGELUActivation):
    """GELU by tanh, in one pass."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape."""
        return F.gelu(input, approximate="tanh")


class FastDropout(nn.Dropout):
    """`nn.Dropout` that draws 16 random bits an element for bfloat16 on the CPU: p in steps of 2⁻¹⁶, a quarter of the time."""

    def forward(self, input: Tensor) -> Tensor:
        """Same shape."""
        dropped = round(self.p * 2**16)
        is_bf16 = input.dtype == torch.bfloat16 and input.is_cpu
        if not (is_bf16 and self.training and 0 < dropped < 2**16) or self.inplace:
            return super().forward(input)
        words = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: input.numel()].view(input.shape)
        scale = torch.ge(bits, dropped - 2**15, out=torch.empty_like(input)).mul_(2**16 / (2**16 - dropped))
        return input * scale


@contextmanager
def fast_layers(model: nn.Module) -> Iterator[None]:
    """Within it, a model's plain linear layers and dropout on the CPU are fast ones; weights, names and ties stay.

    Their classes are swapped, and given back at the end: whoever copies or replaces modules meanwhile has plain layers too then.
    """
    fast = {plain: fast for fast, (path, plain) in _PLAIN.items() if is_on(path)}
    swapped: list[nn.Module] = []
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if type(module) in fast and (weight is None or can_pack(weight)):
            swapped.append(module)
            module.__class__ = fast[type(module)]
    try:
        yield
    finally:
        _plain(swapped)
        plain_layers(model)


def plain_layers(model: nn.Module) -> None:
    """Give a model's layers their own classes back."""
    _plain(model.modules())


def _plain(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        if type(module) in _PLAIN:
            module.__class__ = _PLAIN[type(module)][1]


_PLAIN: dict[type, tuple[str, type[nn.Module]]] = {
    FastLinear: ("training_layers", nn.Linear),
    FastConv1D: ("training_layers", Conv1D),
    FastDropout: ("training_dropout", nn.Dropout),
    FastGelu: ("training_gelu", NewGELUActivation),
}
"""The probe of each, and what it stands for."""
