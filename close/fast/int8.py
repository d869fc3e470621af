"""Frozen layers in 8 bits for the CPU: half the time of bf16's products, a quarter of fp32's.

Weights are whole numbers with a scale an output, rows of the input whole numbers with a scale each, found as they come
("vector-wise": Dettmers et al. (2022), "LLM.int8()"): a token with huge activations, as CLIP's towers have them, takes no
precision from the others. Products are oneDNN's, summed in 32 bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Int8Linear"]

MIDDLE = 128
"""What stands for 0 in a row: oneDNN multiplies numbers without a sign by numbers with one."""
BLOCK = 2**19
"""Numbers that are rounded at a time: what is between stays in the cache, and in memory that the C library keeps."""


class Int8Linear(nn.Linear):
    """`nn.Linear` for inference.

    Args:
        weight: (out, in). bias: (out,).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        scales = _scales(weight)
        numbers = (weight.float() / scales).round_().to(torch.int8)
        own: dict[str, Any] = {"weight": weight.new_empty(0), "bias": None if bias is None else bias.detach()}
        own |= {"numbers": torch.ops.onednn.qlinear_prepack(numbers, None), "scales": scales[:, 0]}
        own |= {"zeros": torch.zeros(len(weight), dtype=torch.int32)}
        self.__dict__.update(own)  # no parameters: nothing here is ever trained or saved

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        rows = input.reshape(-1, self.in_features)
        parts = [_numbers(part) for part in rows.split(max(1, BLOCK // self.in_features))]
        numbers, scales = (torch.cat(part) for part in zip(*parts, strict=True))
        weights = (self.numbers, self.scales, self.zeros, None)
        out = torch.ops.onednn.qlinear_pointwise(numbers, 1.0, MIDDLE, *weights, 1.0, 0, input.dtype, "none", [], "")
        scales = scales.to(input.dtype)
        out = out.mul_(scales) if self.bias is None else torch.addcmul(self.bias, out, scales)
        return out.reshape(*input.shape[:-1], self.out_features)


def _numbers(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(N, in) of 8 bits and (N, 1) scales."""
    scales = _scales(rows)
    return (rows.float() * scales.reciprocal()).add_(MIDDLE + 0.5).to(torch.uint8), scales


def _scales(rows: Tensor) -> Tensor:
    """(N, 1) float32: what 1 stands for in each row, so that its largest number is 127."""
    return rows.abs().amax(-1, keepdim=True).float().clamp_min_(1e-12) / 127
