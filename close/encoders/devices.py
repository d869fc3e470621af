"""Where an encoder works, and what depends on that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from close.errors import RecipeError, reason

__all__ = ["exact_convolutions", "opening_threads", "pick_device"]

FEW, MANY = 4, 32
"""Threads that open files: beside a model on the same cores, and at most."""


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; without one, the accelerator if there is one, else the CPU.

    Raises:
        RecipeError: there is no such device here.
    """
    if device is not None:
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise RecipeError(f"device {str(device)!r} can't be used: {reason(error, whole=False)}") from None
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def opening_threads(device: torch.device) -> int:
    """How many threads open files for a model there: an accelerator leaves them all cores, and waits for them."""
    if device.type == "cpu":
        return FEW
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores, FEW), MANY)


@contextmanager
def exact_convolutions(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Convolutions of float32 are in float32 inside: on CUDA they are in TF32, of 10 bits, unless told otherwise."""
    if device.type != "cuda" or dtype != torch.float32:
        yield
        return
    cudnn: Any = torch.backends.cudnn
    switch, name, exact = (
        (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    )
    before = getattr(switch, name)
    setattr(switch, name, exact)
    try:
        yield
    finally:
        setattr(switch, name, before)
