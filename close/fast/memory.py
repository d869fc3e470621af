"""Memory: what is kept between steps instead of being given back, what fits caches, and what says that none is left."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from close.fast.precision import LARGE
from close.fast.probe import is_on
from close.fast.switch import is_allowed

__all__ = ["glibc", "in_cache", "is_out_of_memory", "kept_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt(3): from where on free memory at the heap's end, and freed large blocks, go back to the system."""
_MOST = 2**31 - 1
_CACHED = 5 * 2**19
"""Numbers: a layer makes several times as many of them."""
_inside = 0


@contextmanager
def kept_memory() -> Iterator[None]:
    """Within it, glibc keeps what is freed for the next step; afterwards that goes back to the system.

    A step of training frees gigabytes and takes them again. Each fresh page costs a fault: a fifth of T5-base's step. Nothing
    happens where the C library is another one.
    """
    global _inside
    libc = glibc() if is_on("kept_memory") else None
    _inside += 1
    if libc and _inside == 1:
        libc.mallopt(_MMAP_THRESHOLD, _MOST)
        libc.mallopt(_TRIM_THRESHOLD, _MOST)
    try:
        yield
    finally:
        _inside -= 1
        if libc and not _inside:  # as high as glibc itself raises them
            libc.mallopt(_MMAP_THRESHOLD, 32 * 2**20)
            libc.mallopt(_TRIM_THRESHOLD, 64 * 2**20)
            libc.malloc_trim(0)


def in_cache(rows: int, numbers: int, weights: int, device: torch.device) -> int:
    """How many of so many rows a frozen tower is best given at once: on the CPU, parts alike that about stay in its caches.

    Texts of ViT-L/14 take a fifth less time by 128 than by 256, pictures a twentieth less by 16 than by 32.

    Args:
        numbers: that a row brings into the tower. weights: of the model; a small one's rows fit however many there are.
    """
    if device.type != "cpu" or weights < LARGE or not is_allowed():
        return rows
    parts = min(rows, -(-rows * numbers // _CACHED))
    return -(-rows // parts)


@cache
def glibc() -> Any:
    """The C library, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory was full, an accelerator's or the processor's (torch has no kind for all of them)."""
    said = re.search(r"out of memory|can't allocate memory|not enough memory", str(error))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said is not None)
