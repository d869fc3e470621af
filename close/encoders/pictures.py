"""Opening pictures."""

from __future__ import annotations

import os
import re
import threading
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from close.encoders.films import frame_file, frame_of_film, frame_place
from close.errors import DataError, reason, shown
from close.io.media import HEIC_HINT, describe, missing_file, picture_formats
from close.io.parts import split_name

__all__ = ["cropped", "open_picture"]

ASPECT = 200
"""How many times longer than high a picture may be, or higher than long: encoders scale the short side to their own size."""
TOPS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""The highest number of 8, 10, 12, 14 and 16 bits; files of 16 say nowhere how many of them a camera or a scanner filled."""
_HEIC = re.compile(rb".{4}ftyp(?:he[ivx]|mi|ms)", re.DOTALL)
_LOADING = threading.Lock()
"""Pillow reads an opened file where its picture is first used, and threads that share one would read it together."""


def open_picture(item: Any) -> Image.Image:
    """A picture, as an upright one of RGB and eight bits.

    It is given as a path (also of a box or a frame, `photo.jpg#xywh=…`: `close.io.parts`), an open file, its bytes, a PIL
    image or a (H, W[, 3 or 4]) array (uint8, or floats in 0–1).

    A file is any that Pillow decodes by itself, whatever its name; of several pictures in it, the first is taken. More pixels
    than `PIL.Image.MAX_IMAGE_PIXELS` (89 million) are refused before they are decoded, and so is a strip of more than 200 to 1.

    Raises:
        MissingError: no such file.
        DataError: not a picture, too large or too narrow, or an array of another shape.
    """
    if isinstance(item, Image.Image):
        return _loaded(item)
    if isinstance(item, (str, os.PathLike)):
        return _open_file(Path(item))
    if isinstance(item, (bytes, bytearray, memoryview)):
        return _decoded(BytesIO(item), f"image in {describe(item)}")
    if hasattr(item, "read"):
        return _decoded(item, f"image {describe(item)}")
    array = np.asarray(item)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise DataError(f"an image array is (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    if array.dtype != np.uint8:
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise DataError(f"an image array is uint8, or floats between 0 and 1, not {array.dtype} beyond them")
        array = (array * 255).round().astype(np.uint8)
    _check_size((array.shape[1], array.shape[0]), "an image array")
    return Image.fromarray(array).convert("RGB")


def _loaded(picture: Image.Image) -> Image.Image:
    _check_size(picture.size, "a PIL image")
    try:
        with _LOADING:
            picture.load()
    except Exception as error:  # of the file behind it
        raise DataError(f"a PIL image can't be read: {reason(error)}") from None
    return _rgb(_upright(picture))


def _open_file(path: Path) -> Image.Image:
    path, part = split_name(path)
    if part.startswith("xywh="):
        return cropped(_open_file(path), part, f"image {path}")
    if part:
        place = frame_place(part, f"film {path}")
        if not path.is_dir():
            return frame_of_film(path, *place)
        path = frame_file(path, *place)
    name = f"image {path}"
    if not path.is_file():
        raise missing_file("image", path)
    return _decoded(path, name)


def cropped(picture: Image.Image, part: str, name: str) -> Image.Image:
    """A box of an upright picture, as far as it lies inside.

    Args:
        part: `xywh=10,20,300,200` in pixels, or `xywh=percent:0,0,50,50`.
        name: of the picture, in messages.
    Raises:
        DataError: there is nothing of it inside, or it is no box.
    """
    unit, _, text = part.removeprefix("xywh=").rpartition(":")
    try:
        left, top, width, height = (float(number) for number in text.split(","))
        if unit not in ("", "pixel", "percent") or not (
            width > 0 and height > 0 and abs(left) < 1e9 and abs(top) < 1e9
        ):
            raise ValueError
    except ValueError:
        raise DataError(f"{name}: box {shown(part)}, expected xywh=left,top,width,height") from None
    wide, high = (side / 100 if unit == "percent" else 1 for side in picture.size)
    edges = [left * wide, top * high, min((left + width) * wide, 1e9), min((top + height) * high, 1e9)]
    inside = [max(round(edges[0]), 0), max(round(edges[1]), 0)]
    inside += [min(round(edge), side) for edge, side in zip(edges[2:], picture.size, strict=True)]
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise DataError(
            f"{name}: of the box {text} (left, top, width, height) no pixel lies inside the picture of "
            f"{picture.width} × {picture.height}"
        )
    _check_size((inside[2] - inside[0], inside[3] - inside[1]), f"{name}: box {text}")
    return picture.crop((inside[0], inside[1], inside[2], inside[3]))


def _decoded(source: Path | IO[bytes], name: str) -> Image.Image:
    try:
        with Image.open(source, formats=picture_formats()) as picture:
            _check_size(picture.size, name)
            return _rgb(_upright(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, "more than twice as many") from None
    except DataError:
        raise
    except UnidentifiedImageError as error:
        hint = f"; {HEIC_HINT}" if "HEIF" not in picture_formats() and _HEIC.match(_head(source)) else ""
        raise DataError(f"{name} can't be read: {reason(error)}{hint}") from None
    except Exception as error:  # decoders raise whatever they meet in a damaged file
        raise DataError(f"{name} can't be read: {reason(error)}") from None


def _head(source: Path | IO[bytes]) -> bytes:
    try:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
            file.seek(0)
            return file.read(12)
    except (OSError, ValueError, AttributeError):  # a stream is read once
        return b""


def _check_size(size: tuple[int, int], name: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and size[0] * size[1] > limit:
        raise _too_large(name, f"{size[0]} × {size[1]}")
    if max(size) > ASPECT * min(size):
        raise DataError(
            f"{name} is a strip of {size[0]} × {size[1]} pixels, and at most {ASPECT} to 1 are taken: an encoder would scale "
            "it up to a huge one; cut it into pieces"
        )


def _too_large(name: str, pixels: str) -> DataError:
    return DataError(
        f"{name} has {pixels} pixels, and at most {Image.MAX_IMAGE_PIXELS:,} are decoded; scale it down "
        "(in Python, PIL.Image.MAX_IMAGE_PIXELS is the limit)"
    )


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # of an EXIF block that is broken; a picture that is cut off raises again where it is decoded
        return picture


def _rgb(picture: Image.Image) -> Image.Image:
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(picture))).convert("RGB")
    if mode == "LAB":
        from PIL import ImageCms

        lab, rgb = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
        return ImageCms.profileToProfile(picture, lab, rgb, outputMode="RGB") or picture
    premultiplied = {"La": "LA", "RGBa": "RGBA"}.get(mode)
    return (picture.convert(premultiplied) if premultiplied else picture).convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Numbers beyond eight bits as (H, W) uint8. `convert` would clip them at 255, or make black of fractions.

    What files hold: fractions up to 1, or numbers of as many bits as the highest needs (`TOPS`); anything else is spread from
    its lowest to its highest.
    """
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    low, high = (float(np.min(numbers, where=finite, initial=0.0)), float(np.max(numbers, where=finite, initial=0.0)))
    tops = (1.0, *TOPS) if values.dtype.kind == "f" else TOPS
    if low < 0 or high > tops[-1]:
        low, top = float(numbers[finite].min()), float(numbers[finite].max())
    else:
        low, top = 0.0, next(top for top in tops if high <= top)
    scaled = (np.where(finite, numbers, low) - low) * (255 / ((top - low) or 1))
    return scaled.round().clip(0, 255).astype(np.uint8)
