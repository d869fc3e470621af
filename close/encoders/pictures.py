"""Opening pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from close.errors import DataError, MissingError

__all__ = ["open_picture"]


def open_picture(item: Any) -> Image.Image:
    """A path, PIL image or (H, W[, 3 or 4]) array (uint8, or floats in 0–1) as an upright RGB picture.

    Raises:
        MissingError: no such file.
        DataError: not a picture, or an array of another shape.
    """
    if isinstance(item, Image.Image):
        return _rgb(item)
    if isinstance(item, (str, Path)):
        return _open_file(Path(item))
    array = np.asarray(item)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise DataError(f"an image array is (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    if array.dtype != np.uint8:
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise DataError(f"an image array is uint8, or floats between 0 and 1, not {array.dtype} beyond them")
        array = (array * 255).round().astype(np.uint8)
    return Image.fromarray(array).convert("RGB")


def _open_file(path: Path) -> Image.Image:
    if not path.is_file():
        raise MissingError(f"image {path}: no such file")
    try:
        with Image.open(path) as picture:
            return _rgb(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path} can't be read: {error}") from None


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel: `convert` would clip them at 255
        picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
    return picture.convert("RGB")
