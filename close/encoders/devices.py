"""Where an encoder works, and what depends on that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock, Thread
from typing import Any

import torch

from close.errors import RecipeError, reason

__all__ = ["exact_convolutions", "opening_threads", "pick_device"]

FEW, MANY = 4, 16
"""Threads that open files: beside a model on the same cores, and at most."""

_lock, _inside = Lock(), 0
_before: list[tuple[Any, str, Any]] = []
"""What is to be put back when the last has left `exact_convolutions`: the switch is the process's, its threads come and go."""


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


def opening_threads(device: torch.device) -> ThreadPoolExecutor:
    """Threads that open files for a model there: an accelerator leaves them all cores, and waits for them."""
    if device.type == "cpu":
        return ThreadPoolExecutor(FEW)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(min(max(cores, FEW), MANY), initializer=_one_core, initargs=(torch.get_num_threads(),))


def _one_core(others: int) -> None:
    """The calling thread has one core, those that start from now on have `others`: teams of all cores would spin."""
    torch.get_num_threads()  # the first call in a thread sets them
    torch.set_num_threads(1)
    restoring = Thread(target=torch.set_num_threads, args=(others,))
    restoring.start()
    restoring.join()


@contextmanager
def exact_convolutions(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Convolutions of float32 are in float32 inside: on CUDA they are in TF32, of 10 bits, unless told otherwise."""
    global _inside
    if device.type != "cuda" or dtype != torch.float32:
        yield
        return
    with _lock:
        if not _inside:
            _set_exact()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            while not _inside and _before:
                setattr(*_before.pop())


def _set_exact() -> None:
    backends: Any = torch.backends
    cudnn = backends.cudnn
    if not hasattr(cudnn, "conv"):
        _before.append((cudnn, "allow_tf32", cudnn.allow_tf32))
        cudnn.allow_tf32 = False
        return
    name, general = "fp32_precision", backends.fp32_precision
    # the second follows the first, and that the general one, until it is set by itself
    for switch in (cudnn, cudnn.conv):
        own = getattr(switch, name)
        if own != "ieee":
            _before.append((switch, name, "none" if switch is cudnn and own == general else own))
            setattr(switch, name, "ieee")
