"""A part of a file by its name: a box of a picture, or a frame of a film, as W3C's media fragments write it.

`photo.jpg#xywh=10,20,300,200` is a box in pixels, `photo.jpg#xywh=percent:0,0,50,50` one in per cent, `film.mp4#frame=2,8` the
second of eight frames at even distances. Whatever takes the name of a picture takes these: rows, tables, the command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from close.errors import DataError, RecipeError, shown

__all__ = [
    "FRAMES",
    "MOST_FRAMES",
    "MOST_TILES",
    "box_name",
    "check_frames",
    "file_of",
    "frame_names",
    "split_name",
    "tile_names",
]

_PART = re.compile(r"(.+)#((?:xywh|frame)=[^#]*)", re.DOTALL)
FRAMES = 8
"""Of a film, where nobody says how many."""
MOST_TILES, MOST_FRAMES = 16, 64
"""A row or column of tiles, frames of a film; an item is at most some hundred vectors."""


def split_name(name: str | os.PathLike[str]) -> tuple[Path, str]:
    """File and part of a name: ("photo.jpg", "xywh=10,20,300,200"); of a whole file, or one that has such a name itself, ""."""
    found = _PART.fullmatch(os.fspath(name))
    return (Path(name), "") if found is None or os.path.isfile(name) else (Path(found[1]), found[2])


def file_of(name: str | os.PathLike[str]) -> Path:
    """The file that a name is about."""
    return split_name(name)[0]


def box_name(name: str | os.PathLike[str], box: Sequence[float], where: str = "") -> str:
    """The name of a box of a picture.

    Args:
        box: left, top, width, height in pixels, as COCO and Visual Genome have it.
        where: what a message begins with.
    Raises:
        DataError: no four numbers, or no size.
    """
    given: Any = box.tolist() if hasattr(box, "tolist") else box
    parts = list(given) if isinstance(given, (list, tuple)) else [given]
    numbers = [one for one in parts if isinstance(one, (int, float)) and not isinstance(one, bool) and abs(one) < 1e9]
    if len(parts) != 4 or len(numbers) != 4 or not (numbers[2] > 0 and numbers[3] > 0):
        hint = "; boxes are a list of them, [[…], …]" if isinstance(given, (int, float)) else ""
        raise DataError(
            f"{where}a box is [left, top, width, height] in pixels, the last two above 0, not {shown(given)}{hint}"
        )
    return f"{os.fspath(name)}#xywh={','.join(f'{one:.10g}' for one in numbers)}"


def tile_names(name: str | os.PathLike[str], rows: int, columns: int) -> list[str]:
    """A picture as an item of several: the whole, and its tiles in reading order."""
    high, wide = 100 / rows, 100 / columns
    tiles = [
        f"{os.fspath(name)}#xywh=percent:{column * wide:.10g},{row * high:.10g},{wide:.10g},{high:.10g}"
        for row in range(rows)
        for column in range(columns)
    ]
    return [os.fspath(name), *tiles]


def check_frames(count: int | None) -> None:
    """Refuse a number of frames that no film is taken by.

    Raises:
        RecipeError: it is not 1 to 64.
    """
    whole = isinstance(count, Integral) and not isinstance(count, bool)
    if count is not None and not (whole and 1 <= count <= MOST_FRAMES):
        raise RecipeError(f"frames of a film are a whole number from 1 to {MOST_FRAMES}, not {shown(count)}")


def frame_names(name: str | os.PathLike[str], count: int) -> list[str]:
    """A film as an item of `count` frames at even distances, each in the middle of its share."""
    return [f"{os.fspath(name)}#frame={number},{count}" for number in range(1, count + 1)]
