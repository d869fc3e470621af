"""Small copies of an example's pictures, for pages and cards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MOST", "pictures_of", "small_picture"]

MOST = 9
"""Pictures of one example that are shown."""
_BETWEEN = 6


def pictures_of(example: Mapping[str, Any]) -> list[str]:
    """What names them: of several, all; else the one, if there is any."""
    return list(example.get("images") or filter(None, [example.get("image")]))


def small_picture(names: Sequence[str], pixels: int) -> Image:
    """A copy of a picture; of several the first nine, side by side on white.

    Args:
        names: of files, boxes or frames, one or more.
        pixels: the longer side of one; of several, about half of all.
    Raises:
        MissingError, DataError: one is not there, or no picture.
        OSError, ValueError: it has a name that no file can have.
    """
    from PIL import Image

    from close.encoders.pictures import open_picture

    shown = [open_picture(name) for name in names[:MOST]]
    columns = math.ceil(math.sqrt(len(shown)))
    side = pixels if columns == 1 else 2 * pixels // (columns + 1)
    for one in shown:
        one.thumbnail((side, side))
        one.info = {}  # comments and the like, which Pillow writes on
    if len(shown) == 1:
        return shown[0]
    wide, high = (max(one.size[axis] for one in shown) + _BETWEEN for axis in (0, 1))
    rows = math.ceil(len(shown) / columns)
    sheet = Image.new("RGB", (columns * wide - _BETWEEN, rows * high - _BETWEEN), "white")
    for place, one in enumerate(shown):
        sheet.paste(one, (place % columns * wide, place // columns * high))
    return sheet
