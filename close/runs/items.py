"""What a captioner is given: one item or several, folders replaced by their files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

import PIL.Image
from numpy.typing import NDArray
from torch import Tensor

from close.errors import DataError
from close.io.media import media_below, some

__all__ = ["Item", "Items", "expand"]

Item: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes] | PIL.Image.Image | NDArray[Any] | Tensor
"""One file of the second modality: its name, its content, or what its library makes of it."""
Items: TypeAlias = Item | Iterable[Item]


def expand(items: Items, suffixes: Sequence[str]) -> tuple[list[Any], bool]:
    """A list of items, and whether a single one was meant; folders are replaced by their files, in order.

    Raises:
        DataError: a folder without any file of these endings.
    """
    several = not _is_one(items)
    found: list[Any] = []
    every: Iterable[Any] = items if several else [items]  # type: ignore[assignment]
    for item in every:
        if isinstance(item, (str, os.PathLike)) and Path(item).is_dir():
            files = media_below(Path(item), suffixes)
            if not files:
                raise DataError(f"{item}: no file in this folder ends in {some(suffixes)}")
            found.extend(files)
            several = True
        else:
            found.append(item)
    return found, not several


def _is_one(items: Any) -> bool:
    """Whether this is one item, though it may be a sequence of characters, bytes, lines or numbers."""
    if isinstance(items, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(items, "read"):
        return True
    kind = getattr(getattr(items, "dtype", None), "kind", None)  # names in an array or a table's column are several
    return kind not in ("O", "U", "T") if hasattr(items, "dtype") else not isinstance(items, Iterable)
