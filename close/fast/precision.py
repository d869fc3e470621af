"""Number formats, and which one suits a model on this machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch

from close.errors import RecipeError
from close.fast.switch import is_allowed

__all__ = [
    "INT8",
    "LARGE",
    "has_bf16",
    "in_autocast",
    "multiplies_bf16",
    "pick_dtype",
    "pick_precision",
    "without_autocast",
]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
INT8 = "int8"
LARGE = 50_000_000
"""Weights from which bf16 pays; below it, a model's time goes into calls rather than into products."""


def pick_precision(precision: str, device: torch.device, weights: int) -> str:
    """fp32, bf16 or fp16 as asked for; `auto` is bf16 for large models where the hardware multiplies it, else fp32.

    Args:
        precision: "int8" is what an encoder's products are in; what else there is to compute is as with `auto`.
        weights: number of the model's parameters.
    Raises:
        RecipeError: no such precision.
    """
    if precision in ("auto", INT8):
        return "bf16" if weights >= LARGE and has_bf16(device) else "fp32"
    pick_dtype(precision)
    return precision


def pick_dtype(precision: str) -> torch.dtype:
    """fp32, bf16 or fp16 as a torch dtype.

    Raises:
        RecipeError: no such precision.
    """
    if precision not in _DTYPES:
        raise RecipeError(f"precision is one of auto, {', '.join(_DTYPES)}, {INT8}, not {precision!r}")
    return _DTYPES[precision]


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is a gain on this device; never with `CLOSE_FAST=0`."""
    return is_allowed() and multiplies_bf16(device)


@cache
def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware, rather than by way of fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch.cpu has no public ones
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def in_autocast(device: torch.device) -> bool:
    """Whether autocast is on there; some devices, as "meta", have none."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """`with without_autocast(x.device):` computes in its tensors' own formats, whatever autocast lies around it."""
    return torch.autocast(device.type, enabled=False) if in_autocast(device) else nullcontext()
