"""How every long job begins: alone, and with what killed ones left cleared away."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from close.io.files import locked

__all__ = ["clear", "exclusively", "is_temporary"]


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
        with locked(target.parent / f".{target.name}.lock", f"{said} {doing}"):
            clear(target.parent, re.escape(target.name) + r"(\.partial(\.json)?)?")
            yield
    finally:
        with suppress(OSError):  # not where something lies in them now
            for folder in missing:
                folder.rmdir()


def clear(folder: Path, names: str = ".+") -> None:
    """Remove what killed processes were about to call by one of these names (a regular expression), directly in a folder."""
    for path in folder.iterdir():
        if is_temporary(path, names):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_temporary(path: Path, names: str = ".+") -> bool:
    """Whether this is what `close.io.files.whole` writes to, before it has one of these names."""
    return re.fullmatch(rf"\.({names})\.\d+\.tmp", path.name) is not None
