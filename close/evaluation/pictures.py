"""Small copies of an example's pictures, for pages and cards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from close.errors import CloseError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MOST", "pictures_of", "small_picture"]

MOST = 9
"""Pictures of one example that are shown."""
_BETWEEN = 6


def pictures_of(example: Mapping[str, Any]) -> list[str]:
    """What names them: of several, all; else the one, if there is any."""
    return list(example.get("images") or filter(None, [example.get("image")]))


def small_picture(names: Sequence[str], pixels: int) -> tuple[Image | None, list[str]]:
    """A copy of a picture; of several the first nine, side by side on white.

    Args:
        names: of files, boxes or frames.
        pixels: the longer side of one that is alone; of two two thirds of it, of nine half.
    Returns:
        The copy, of those that can be opened, or None; and the names of the others: not there, or no picture.
    """
    from PIL import Image

    from close.encoders.pictures import open_picture

    columns = math.ceil(math.sqrt(len(names[:MOST])))
    side = pixels if columns == 1 else 2 * pixels // (columns + 1)
    shown, absent = list[Image.Image](), list[str]()
    for name in names[:MOST]:
        try:
            one = open_picture(name)
        except (CloseError, OSError, ValueError):  # the last two: of a name that no file can have
            absent.append(name)
            continue
        one.thumbnail((side, side))
        one.info = {}  # comments and the like, which Pillow writes on
        shown.append(one)
    return _sheet(shown, columns), absent


def _sheet(shown: Sequence[Image], columns: int) -> Image | None:
    """Pictures on white in so many columns; one is itself."""
    from PIL import Image

    if len(shown) < 2:
        return shown[0] if shown else None
    wide, high = (max(one.size[axis] for one in shown) + _BETWEEN for axis in (0, 1))
    rows = math.ceil(len(shown) / columns)
    sheet = Image.new("RGB", (columns * wide - _BETWEEN, rows * high - _BETWEEN), "white")
    for place, one in enumerate(shown):
        sheet.paste(one, (place % columns * wide, place // columns * high))
    return sheet
