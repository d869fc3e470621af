"""Names for what is kept between runs: hashes of texts and files, and the folder where it lies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from close.io.files import files_below
from close.io.parts import file_of

__all__ = ["cache_folder", "file_key", "files_key", "text_key"]


def cache_folder() -> Path:
    """`$CLOSE_CACHE`, or `~/.cache/close`."""
    return Path(os.environ.get("CLOSE_CACHE") or Path.home() / ".cache" / "close")


def text_key(text: str) -> int:
    """The 64-bit hash by which a text is found in a table."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def file_key(path: Path) -> int:
    """The 64-bit hash of a path (or part of one), and the file's size and time of change; of a folder's files, for a folder.

    A relative path counts as what it names: two projects may each have a `data/1.jpg`.
    """
    path = Path(os.path.abspath(path))
    whole = file_of(path)
    if whole.is_dir():
        return text_key(f"{path}\0{[file_key(file) for file in files_below(whole) if file.is_file()]}")
    about = whole.stat() if whole.is_file() else None
    return text_key(f"{path}\0{about.st_size}\0{about.st_mtime_ns}" if about else str(path))


def files_key(paths: Sequence[Path]) -> int:
    """Of several files together; of one, its own."""
    keys = [file_key(path) for path in paths]
    return keys[0] if len(keys) == 1 else text_key(f"{keys}")
