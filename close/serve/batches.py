"""Work that arrives one by one and is done many at a time, by one thread: what is asked alike goes together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from close.serve.limits import Limits, RefusedError

__all__ = ["Batches"]


@dataclass(eq=False)
class _Job:
    asked: Hashable
    items: Sequence[Any]
    future: Future[list[Any]] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batches:
    """Jobs wait in a line; the oldest, and what was asked alike and fits into the batch beside it, is done next.

    Models are used by this one thread alone.

    Args:
        work: what is asked, and items, to a result each.
    """

    def __init__(self, work: Callable[[Any, list[Any]], Sequence[Any]], limits: Limits) -> None:
        self.work, self.limits = work, limits
        self.held = 0
        self.pace = 0.0
        self._line: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Room for so many items, for as long as the block lasts.

        Raises:
            RefusedError: there is none (503), with the seconds after which there should be.
        """
        if self.held + count > self.limits.queue:
            again = 1 + min(int(self.limits.batch_size * self.pace), 59)  # then a batch is done
            raise RefusedError(503, f"busy: {self.held} items wait already; try again in {again} s", again=again)
        self.held += count
        try:
            yield
        finally:
            self.held -= count

    def put(self, asked: Hashable, items: Sequence[Any]) -> Future[list[Any]]:
        """The results of items, when they are there; cancelled before its turn, a job is passed over."""
        job = _Job(asked, items)
        with self._changed:
            self._line.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Return when all that waits is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            begun = [job for job in jobs if job.future.set_running_or_notify_cancel()]
            started = time.monotonic()
            self._answer(begun)
            if count := sum(len(job.items) for job in begun):
                self.pace = (time.monotonic() - started) / count

    def _next(self) -> list[_Job]:
        """The jobs of the next batch; none when closed and done."""
        with self._changed:
            while not self._line:
                if self._closed:
                    return []
                self._changed.wait()
            until = self._line[0].arrived + self.limits.window
            while not self._closed and (left := until - time.monotonic()) > 0 and not self._is_full():
                self._changed.wait(left)
            return self._take()

    def _is_full(self) -> bool:
        asked = self._line[0].asked
        return sum(len(job.items) for job in self._line if job.asked == asked) >= self.limits.batch_size

    def _take(self) -> list[_Job]:
        asked, room = self._line[0].asked, self.limits.batch_size
        taken, left = list[_Job](), deque[_Job]()
        for job in self._line:
            if job.asked == asked and (not taken or len(job.items) <= room):
                taken.append(job)
                room -= len(job.items)
            else:
                left.append(job)
        self._line = left
        return taken

    def _answer(self, jobs: list[_Job]) -> None:
        """A result for each item; what fails together is tried one by one, so that a fault stays its own job's."""
        if not jobs:
            return
        try:
            found = iter(self.work(jobs[0].asked, [item for job in jobs for item in job.items]))
            answers = [[next(found) for _ in job.items] for job in jobs]
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
            else:
                for job in jobs:
                    self._answer([job])
        else:
            for job, answer in zip(jobs, answers, strict=True):
                job.future.set_result(answer)
