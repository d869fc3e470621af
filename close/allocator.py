"""The C library's memory, kept between steps."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

__all__ = ["keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_memory() -> None:
    """Let this process keep what it frees, where the C library is glibc.

    Every training step allocates gradients and activations anew. glibc hands blocks of that size back to the system and gets them
    back page by page, zeroed, which costs a fifth of a step on a CPU.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
