"""Several processes that train one run (torchrun, accelerate): they end together."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["ended_together", "is_first"]


def is_first() -> bool:
    """Whether this is the process that writes (known before any group of them is opened)."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def ended_together() -> Iterator[None]:
    """Left when every process has come to the block's end, or at once after an error.

    A process group that the block opens is closed when the process exits (a second one can't be opened in it): left open, its
    threads may outlive the interpreter, and the process dies of that.
    """
    was_there = _is_open()
    try:
        yield
        if _is_open():
            torch.distributed.barrier()
    finally:
        if _is_open() and not was_there:
            atexit.register(_close)


def _close() -> None:
    gc.collect()  # what still holds the group would keep its threads
    if _is_open():
        torch.distributed.destroy_process_group()


def _is_open() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
