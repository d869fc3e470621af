"""Processes that this one starts, and that end with it, however it ends.

Each has a pipe as its stdin that nobody writes to. When the process that began it is gone, by SIGKILL too, the system closes
the pipe, and a thread that waits for that ends the child: `python -m close.io.children MODULE ARGUMENTS` runs a module so.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

__all__ = ["ended", "start"]

Child = subprocess.Popen[bytes]


def start(module: str, arguments: Sequence[str], *, log: IO[Any], environment: Mapping[str, str]) -> Child:
    """Run a module as `python -m` does, in a process that ends when this one does.

    Args:
        log: where it writes, stdout and stderr. environment: all of its variables.
    """
    command = [sys.executable, "-m", "close.io.children", module, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)


@contextmanager
def ended(children: Mapping[str, Child]) -> Iterator[None]:
    """A block that no child outlives, whether it ends by an error or not."""
    try:
        yield
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            child.wait()  # it holds the lock of what it makes


def _end_with_parent() -> None:
    """End this process when nobody holds the other end of its stdin any more; nothing reads from stdin then."""
    pipe = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def wait() -> None:
        while os.read(pipe, 1):
            pass
        os._exit(1)  # as if it were killed, which every job survives

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
