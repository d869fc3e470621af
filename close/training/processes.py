"""Several processes that train one run (torchrun, accelerate): they end together."""

from __future__ import annotations

import atexit
import gc
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

__all__ = ["ended_together", "first_alone", "is_first"]

PATIENCE = timedelta(days=30)
"""How long processes wait for one that has work of its own to do; when it dies they are told at once."""
_waiting: weakref.ref[Any] | None = None
"""The group that they wait in, as long as the group that trains is there: torch holds it."""


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
    group = _opened()
    first = torch.distributed.get_rank() == 0
    if not first:
        _meet(group)
    try:
        yield
    finally:
        if first:
            _meet(group)


def _opened() -> Any:
    """The group to wait in; all processes open it together, with the patience of the one that trains: one may be gone already."""
    global _waiting
    group = _waiting and _waiting()
    if group is None:
        torch.distributed.barrier()
        group = torch.distributed.new_group(backend="gloo")
        _waiting = weakref.ref(group)
    return group


def _meet(group: Any) -> None:
    """A barrier of any length: torch's own ends with its group's timeout."""
    word, others = torch.zeros(1), range(1, torch.distributed.get_world_size())
    calls = (torch.distributed.irecv, torch.distributed.isend)
    for call in calls if torch.distributed.get_rank() == 0 else calls[::-1]:
        for rank in others if torch.distributed.get_rank() == 0 else [0]:
            work: Any = call(word, rank, group=group)
            work.wait(PATIENCE)


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
