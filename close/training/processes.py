"""Several processes that train one run (torchrun, accelerate): they end together."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

__all__ = ["ended_together", "first_alone", "is_first"]

PATIENCE = timedelta(days=30)
"""How long processes wait for one that has work of its own to do; when it dies they are told at once."""


def is_first() -> bool:
    """Whether this is the process that writes (known before any group of them is opened)."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process runs the block, then the others do: what it has made lies there for them.

    They wait as long as it takes: in a group of gloo's of their own, since the one that trains gives up after `ddp_timeout`, half
    an hour, by which it knows that a process hangs.
    """
    if not _is_open() or torch.distributed.get_world_size() == 1:
        yield
        return
    waiting: Any = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    first = torch.distributed.get_rank() == 0
    if not first:
        torch.distributed.barrier(waiting)
    try:
        yield
    finally:
        if first:
            torch.distributed.barrier(waiting)


@contextmanager
def ended_together() -> Iterator[None]:
    """Left when every process has come to the block's end, or at once after an error.

    A process group that the block opens is closed when the process exits (a second one can't be opened in it): left open, its
    threads may outlive the interpreter, and the process dies of that. After an error NCCL's stays open: to close it waits for the
    others, which may be waiting for this one.
    """
    was_there, ended = _is_open(), False
    try:
        yield
        with first_alone():
            pass
        ended = True
    finally:
        if _is_open() and not was_there and (ended or "nccl" not in torch.distributed.get_backend()):
            atexit.register(_close)


def _close() -> None:
    gc.collect()  # what still holds the group would keep its threads
    if _is_open():
        torch.distributed.destroy_process_group()


def _is_open() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
