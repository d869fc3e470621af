"""Changes that a process makes to the file system: counted, and stopped at."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

__all__ = ["Changes", "Stopped", "forked"]


def forked(work: Callable[[], int]) -> int:
    """The exit code of a child that does this; nothing else may do any, since threads that work leaves do not survive a fork."""
    return os.waitstatus_to_exitcode(os.waitpid(_fork(work), 0)[1])


def _fork(work: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


class Stopped:
    """A child that does some work, and stands still before every change until it is looked at.

    Args:
        work: is given what stands still, for `Changes`.

    Attributes:
        code: how the child ended, once it has.
    """

    def __init__(self, work: Callable[[Callable[[], None]], int]) -> None:
        self.code = 0
        at, go_on = os.pipe(), os.pipe()

        def still() -> None:
            os.write(at[1], b".")
            os.read(go_on[0], 1)

        self._child = _fork(lambda: work(still))
        os.close(at[1])
        os.close(go_on[0])
        self._at, self._go_on = at[0], go_on[1]

    def __iter__(self) -> Iterator[int]:
        """The number of each change, while the child stands before it."""
        number = 0
        while os.read(self._at, 1):
            number += 1
            yield number
            os.write(self._go_on, b".")
        self.code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        os.close(self._at)
        os.close(self._go_on)


class Changes:
    """Counts what this process changes below a folder.

    Args:
        folder: absolute.
        kill_at: the process is killed just before this change.
        still: called just before each change.
    """

    on = False
    WRITES = ("write", "writelines", "flush", "close", "truncate", "tofile")
    NATIVE = ("serialize_file", "save", "write_record", "write_end_of_file")
    """Of Rust and C++, which open files where Python does not see it."""
    MOVES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")

    def __init__(self, folder: str, kill_at: int | None, still: Callable[[], None] | None) -> None:
        self.folder, self.kill_at, self.still, self.number = folder, kill_at, still, 0
        self.lock, Changes.on = threading.RLock(), True
        sys.addaudithook(self._audit)
        sys.setprofile(self._call)
        threading.setprofile(self._call)

    @classmethod
    def stop(cls) -> None:
        """No longer, in this process."""
        cls.on = False
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _change(self) -> None:
        with self.lock:
            self.number += 1
            if self.number == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.still:
                self.still()

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self._is_below(path):
                self._change()
        elif event in self.MOVES and self._is_below(arguments[0]):
            self._change()

    def _call(self, frame: Any, event: str, function: Any) -> None:
        if event != "c_call" or not self.on:
            return
        name = getattr(function, "__name__", "")
        if name in self.NATIVE:
            self._change()
        elif name in self.WRITES:
            file = getattr(function, "__self__", None)
            with suppress(Exception):  # closed files, and what is no file
                if file.writable() and self._is_below(file.name):
                    self._change()

    def _is_below(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)) or os.fsdecode(path).startswith("<"):  # "<stdout>"
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.folder)
