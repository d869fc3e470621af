"""A disk that is cut off from a process at one of its changes, as a kill would, in this process."""

import os
import random
from io import FileIO

import filelock

from data_gen.run import store


class Killed(BaseException):
    """No handler of errors sees it."""


class Disk:
    """Counts what changes files. At the `at`-th change the process is dead: a write is left half done, and nothing follows.

    Args:
        patch: pytest's monkeypatch.
        at: the change that the kill comes at; 0: never.
    """

    def __init__(self, patch, at):
        self.at, self.count, self.dead = at, 0, False
        self._rng, self._locks = random.Random(at), []
        for place, name in ((os, "fsync"), (os, "unlink"), (os, "replace"), (store, "_to_disk")):
            patch.setattr(place, name, self._counted(getattr(place, name)))
        patch.setattr(store, "_open", self._open)
        self._acquire = filelock.FileLock.acquire
        patch.setattr(filelock.FileLock, "acquire", self._locked())

    def change(self):
        """Count a change; die if it is the one."""
        self.count += 1
        if self.dead or self.count == self.at:
            self.dead = True
            raise Killed

    def bury(self):
        """What the system does when a process is gone: its locks are free."""
        for lock in self._locks:
            lock.release(force=True)

    def _counted(self, function):
        def call(*args, **kwargs):
            self.change()
            return function(*args, **kwargs)

        return call

    def _locked(self):
        def acquire(lock, *args, **kwargs):
            self.change()
            self._locks.append(lock)
            return self._acquire(lock, *args, **kwargs)

        return acquire

    def _open(self, path):
        disk = self
        disk.change()

        class Counted(FileIO):
            def write(self, data):
                was_dead = disk.dead
                try:
                    disk.change()
                except Killed:
                    if not was_dead:
                        super().write(data[: disk._rng.randrange(len(data) + 1)])
                    raise
                return super().write(data)

            def truncate(self, size=None):
                disk.change()
                return super().truncate(size)

        return Counted(path, "ab")


def killed(patch, at, work):
    """Do the work on a `Disk`; whether it came to its end."""
    with patch.context() as here:
        disk = Disk(here, at)
        try:
            work()
        except Killed:
            return False
        finally:
            disk.bury()
    return True
