"""Files that appear whole or not at all, and locks between processes."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from filelock import FileLock, Timeout

from close.errors import DataError, MissingError, OutputExistsError

__all__ = [
    "below",
    "check_file",
    "clear_left",
    "files_below",
    "locked",
    "may_not_write",
    "nan_as_null",
    "not_finite",
    "read_json",
    "remove",
    "waiting",
    "walk",
    "whole",
    "write_json",
    "write_text",
]


def check_file(path: str | Path, expected: str = "a file") -> None:
    """Refuse what can't be read from start to end, and again; a pipe would wait for a writer for ever.

    Raises:
        MissingError: nothing is there. DataError: a folder, a pipe, a device or a socket.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a name that no file can have
        raise MissingError(f"{path}: no such file") from None
    except OSError as error:
        raise MissingError(f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: is a folder, expected {expected}")
    if not stat.S_ISREG(mode):
        raise DataError(
            f"{path}: is a pipe, a device or a socket, expected {expected}; save what it gives as one first"
        )


def below(folder: str | Path, name: str) -> str | None:
    """The path of a file that another file names, None where it is not below the folder (`..`, an absolute path elsewhere).

    Links that lie in the folder are followed: they are whoever's who put them there.
    """
    root = os.path.abspath(folder)
    path = os.path.normpath(os.path.join(root, name))
    inside = path != root and os.path.commonpath([root, path]) == root and "\0" not in name
    return path if inside else None


def walk(folder: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` in order of name, into linked folders too: each folder once, by a name without a link where it has one."""
    waiting, seen = [os.fspath(folder)], set[tuple[int, int]]()
    for top in waiting:
        for place, folders, names in os.walk(top):
            about = os.stat(place)
            if (about.st_dev, about.st_ino) in seen:
                folders.clear()
                continue
            seen.add((about.st_dev, about.st_ino))
            folders.sort()
            yield place, folders, sorted(names)
            waiting += [path for name in folders if os.path.islink(path := os.path.join(place, name))]


def files_below(folder: Path, suffix: str = "") -> list[Path]:
    """A folder's files with this ending, at any depth and in order of their paths."""
    return sorted(Path(place, name) for place, _, names in walk(folder) for name in names if name.endswith(suffix))


@contextmanager
def whole(path: str | Path, *, clear: bool = True) -> Iterator[Path]:
    """A name to write a file or a folder under; when the block ends without an error it gets its own, else it is gone.

    So is what a process of this machine that was killed had begun to write.

    Args:
        clear: whether that is looked for, through the whole folder; who writes many files there does it once (`clear_left`).
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if clear:
        clear_left(target.parent, re.escape(target.name))
    partial = target.with_name(f".{target.name}.{_machine()}-{os.getpid()}.tmp")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """Tells machines apart that write to one disk."""
    return f"{crc32(platform.node().encode()):08x}"


def clear_left(folder: Path, names: str = ".+") -> None:
    """Remove what processes of this machine that are gone were about to call by one of these names (a regular expression).

    Args:
        folder: which must be there; only what lies directly in it is looked at.
    """
    if os.name != "posix":  # elsewhere asking after a process would end it
        return
    left = re.compile(rf"\.(?:{names})\.{_machine()}-(?P<process>\d+)\.tmp")
    for entry in os.listdir(folder):
        if (match := left.fullmatch(entry)) and not _is_alive(int(match["process"])):
            remove(folder / entry)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # half a character, as JSON spells it


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, indented, whole or not at all.

    Raises:
        DataError: a number is NaN or infinite, for which JSON has no word.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:
        place, number = not_finite(value) or ("a number", None)
        raise DataError(f"{path}: {place} is {number}, and only finite numbers are kept; nothing was written") from None
    write_text(path, text + "\n")


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's own."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no plain value")


def not_finite(value: Any) -> tuple[str, float] | None:
    """The first NaN or infinity in plain values, and where it is (`scores.cider`); None where there is none."""
    waiting, seen = [("", value)], set[int]()
    for place, part in waiting:
        if isinstance(part, float) and not math.isfinite(part):
            return place, part
        if isinstance(part, (dict, list, tuple)) and id(part) not in seen:  # YAML may nest a list in itself
            seen.add(id(part))
            inner = part.items() if isinstance(part, dict) else enumerate(part)
            waiting += [(f"{place}.{key}".lstrip("."), value) for key, value in inner]
    return None


def nan_as_null(value: Any) -> Any:
    """Plain values with None for NaN and infinity, for which JSON has no other word."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): nan_as_null(item) for key, item in value.items()}
    return [nan_as_null(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        MissingError: no such file.
        DataError: not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path}: no such file") from None
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise DataError(f"{path}: not a JSON file ({error})") from None


@contextmanager
def waiting(path: Path, *made: Path) -> Iterator[None]:
    """Hold an exclusive lock during the block; wait as long as another process holds it.

    Args:
        made: what the block makes, and reads where it is there; then it needs no lock in a folder that can't be written to.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        if not (made and may_not_write(error) and all(file.exists() for file in made)):
            raise
    try:
        yield
    finally:
        lock.release()


def may_not_write(error: OSError) -> bool:
    """Whether the system refuses because of somebody's rights, or a disk that is only read."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold an exclusive lock for as long as the process lives or the block lasts.

    Raises:
        OutputExistsError: another process holds it; `busy` says what that means.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise OutputExistsError(f"{busy} by another process right now; wait for it, or choose another output") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows can't while it is open, and filelock does it then
            path.unlink()  # still held, so that nobody gets a lock on a file that is gone
        lock.release()
