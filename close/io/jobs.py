"""How every long job begins, goes on and ends, wherever it may be killed: the same job again ends as if it had not been.

`exclusively` is for jobs that make a folder step by step, in its place; `job` for those that make a file or folder under another
name: NAME.partial, beside NAME.partial.json with what decides it. The latter goes last of all, so that as long as the process
has not ended the target is known as this job's, and is made or told again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from close.errors import DataError, OutputExistsError
from close.io.files import locked, read_json, remove, write_json

__all__ = ["Job", "clear", "exclusively", "is_temporary", "is_under_way", "job", "not_begun_here"]


class Job:
    """What is made of one target.

    Attributes:
        partial: where it is made. goes_on: whether a killed job of the same kind has begun it. found: what that one noted.
    """

    def __init__(self, target: Path, about: Mapping[str, Any]) -> None:
        self.target, self.about = target, json.loads(json.dumps(about))
        self.partial = target.with_name(target.name + ".partial")
        self.notes = target.with_name(target.name + ".partial.json")
        found: Any = {}
        with suppress(DataError):  # a stranger's, which `check` leaves alone
            found = read_json(self.notes) if self.notes.is_file() else {}
        self.found: dict[str, Any] = found if isinstance(found, dict) else {}
        self.goes_on = self.found.get("about") == self.about

    def check(self, *, overwrite: bool = False) -> None:
        """Make sure that the target is free, or this job's, and that what lies under its other names is of a job.

        Raises:
            OutputExistsError: it is there, or what lies under its other names is not of a job.
        """
        own = self.goes_on and not self.found.get("replaces")
        if self.target.exists() and not (overwrite or own):
            raise OutputExistsError(f"{self.target} exists; choose another output, or remove it")
        for path in (self.partial, self.notes):
            if os.path.lexists(path) and "about" not in self.found:
                raise not_begun_here(path)

    def other(self) -> str:
        """In what the job that was found is another one."""
        begun = self.found.get("about", {})
        return "other " + ", ".join(key for key in self.about | begun if self.about.get(key) != begun.get(key))

    def note(self, **more: Any) -> None:
        """Keep what decides the job, and more, for the next time."""
        write_json(self.notes, {"about": self.about, **more})

    def publish(self) -> None:
        """Give the target its name, if it hasn't got it."""
        if not self.partial.exists():
            return
        old = self.target.with_name(f".{self.target.name}.{os.getpid()}.tmp")
        if self.target.is_dir():  # a folder does not take another's place
            os.replace(self.target, old)
        os.replace(self.partial, self.target)
        remove(old)

    def clear(self) -> None:
        """Remove what there is of it under its other name."""
        remove(self.partial)


def not_begun_here(path: Path) -> OutputExistsError:
    """The error of a file or folder that a job would write over, and that no job has begun."""
    return OutputExistsError(
        f"{path} exists, and would be written over, but was not begun by such a command; move it away, or choose another output"
    )


@contextmanager
def job(
    target: Path, about: Mapping[str, Any], doing: str, *, continues: bool = False, overwrite: bool = False
) -> Iterator[Job]:
    """A block that makes `target` as `Job.partial`, which gets its name when the block ends, or by `Job.publish` before.

    Args:
        about: plain values that decide the target. doing: see `exclusively`.
        continues: after a kill or an error the next job of the same kind goes on with what there is; else it is made anew.
    Raises:
        OutputExistsError: the target exists and `overwrite` is not set; another job has begun it, or makes it now.
    """
    with exclusively(target, doing):
        work = Job(target, about)
        work.check(overwrite=overwrite)
        if continues and work.found and not work.goes_on:
            raise OutputExistsError(
                f"{work.partial} was begun by another job ({work.other()}); give the same, remove it, or choose another output"
            )
        if not (continues and work.goes_on):
            work.clear()
            if not work.goes_on:
                work.note(**({"replaces": True} if target.exists() else {}))
        try:
            yield work
        except BaseException:
            if not continues:
                work.clear()
                work.notes.unlink(missing_ok=True)
            raise
        work.publish()
    work.notes.unlink(missing_ok=True)


@contextmanager
def exclusively(target: Path, doing: str) -> Iterator[None]:
    """A block in which no other process makes this file or folder.

    What killed processes were about to call by its name (`close.io.files.whole`) is removed first. A lock lies beside it for as
    long as the block lasts; the folders above it are made.

    Raises:
        OutputExistsError: another process holds the lock; `doing` says what that means ("is being trained").
    """
    said, target = target, target.absolute()
    missing = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(_lock_of(target), f"{said} {doing}"):
            clear(target.parent, re.escape(target.name) + r"(\.partial(\.json)?)?")
            yield
    finally:
        with suppress(OSError):  # not where something lies in them now
            for folder in missing:
                folder.rmdir()


def is_under_way(target: Path) -> bool:
    """Whether another process is within `exclusively` for this file or folder."""
    lock = _lock_of(target.absolute())
    try:
        with locked(lock, "") if lock.is_file() else nullcontext():
            return False
    except OutputExistsError:
        return True


def _lock_of(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


def clear(folder: Path, names: str = ".+") -> None:
    """Remove what killed processes were about to call by one of these names (a regular expression), directly in a folder.

    Where there is no such folder there is nothing to remove.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_temporary(path, names):
            remove(path)


def is_temporary(path: Path, names: str = ".+") -> bool:
    """Whether this is what `close.io.files.whole` writes to, before it has one of these names."""
    return re.fullmatch(rf"\.({names})\.[-\w]+\.tmp", path.name) is not None
