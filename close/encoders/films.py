"""Frames of films, by PyAV, and of folders of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from close.errors import DataError, MissingError, reason, shown
from close.io.media import FILMS, media_below, picture_suffixes
from close.io.parts import MOST_FRAMES

__all__ = ["frame_file", "frame_of_film", "frame_place", "is_film"]

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,h264,hevc,ivf"
"""Containers that are one film; a playlist would name other files."""


def is_film(path: Path) -> bool:
    """Whether a file's name ends as a film's does."""
    return path.suffix.lower() in FILMS


def frame_place(part: str, name: str) -> tuple[int, int]:
    """`frame=2,8` as (2, 8).

    Raises:
        DataError: it is none of so many frames; `name` begins the message.
    """
    first, _, count = part.removeprefix("frame=").partition(",")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count) <= MOST_FRAMES):
        raise DataError(f"{name}: {shown(part)}, expected frame=NUMBER,COUNT, up to frame={MOST_FRAMES},{MOST_FRAMES}")
    return int(first), int(count)


def frame_file(folder: Path, number: int, count: int) -> Path:
    """Of a folder of frames, in the order of their names, the picture in the middle of the `number`th of `count` shares.

    Raises:
        DataError: there is no picture in the folder.
    """
    files = media_below(folder, picture_suffixes(), quiet=True)
    if not files:
        raise DataError(f"{folder}: no picture is in this folder of frames")
    return files[int((number - 0.5) * len(files) / count)]


def frame_of_film(path: Path, number: int, count: int) -> Image.Image:
    """The frame that is seen in the middle of the `number`th of `count` equal shares of a film, upright.

    Raises:
        MissingError: no such file. DataError: it can't be read, is empty, or PyAV is not installed.
    """
    name = f"film {path}"
    if not path.is_file():
        raise MissingError(f"{name}: no such file")
    _refuse_cut(path, name)
    try:
        import av
    except ImportError:
        raise DataError(f"{name}: films are read by the package av (pip install 'close-toolkit[video]')") from None
    try:
        with av.open(str(path), options={"format_whitelist": _FORMATS}) as film:
            return _frame(film, name, number, count)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they meet in a damaged file
        raise DataError(f"{name} can't be read: {getattr(error, 'strerror', None) or reason(error)}") from None


def _refuse_cut(path: Path, name: str) -> None:
    """A film of no bytes, or of fewer than its container says; decoders play what is there, and say nothing."""
    found = path.stat().st_size
    if not found:
        raise DataError(f"{name} is empty (0 bytes)")
    with path.open("rb") as file:
        said = _declared(file.read(4096))
    if said is not None and found < said:
        raise DataError(f"{name} is cut off: {found:,} of {said:,} bytes are there")


def _declared(head: bytes) -> int | None:
    """Bytes of a file by its first ones: Matroska's and WebM's segment, or AVI's list; None where they don't say."""
    if head.startswith(b"RIFF"):
        size = int.from_bytes(head[4:8], "little")
        return 8 + size if 0 < size < 2**31 else None
    place = head.find(b"\x18\x53\x80\x67") + 4  # Matroska's segment
    if not head.startswith(b"\x1a\x45\xdf\xa3") or place < 4 or place >= len(head) or not head[place]:
        return None
    length = 9 - head[place].bit_length()  # of a number that says its own length by its leading zeros
    bits = (1 << 7 * length) - 1
    size = int.from_bytes(head[place : place + length], "big") & bits
    return None if size == bits else place + length + size  # all ones: written as it came, of no known size


def _frame(film: Any, name: str, number: int, count: int) -> Image.Image:
    if not film.streams.video:
        raise DataError(f"{name} holds no pictures")
    stream = film.streams.video[0]
    width, height, limit = stream.codec_context.width, stream.codec_context.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise DataError(f"{name} has {width} × {height} pixels, and at most {limit:,} are decoded")
    base, start = float(stream.time_base or 0), stream.start_time or 0
    length = float(stream.duration or 0) * base or (film.duration or 0) / 1e6
    if not base or not length:
        return _counted(film, stream, name, number, count)
    at = start * base + (number - 0.5) * length / count
    film.seek(int(at / base), stream=stream)
    seen = None
    for frame in film.decode(stream):
        if seen is not None and frame.time is not None and frame.time > at + 1e-9:
            break
        seen = frame
    if seen is None:
        raise DataError(f"{name} holds no pictures: it is empty, or cut off")
    return _picture(seen)


def _counted(film: Any, stream: Any, name: str, number: int, count: int) -> Image.Image:
    """Of a film that does not say how long it is: by the number of its frames, which are counted first."""
    frames = sum(1 for _ in film.decode(stream))
    if not frames:
        raise DataError(f"{name} holds no pictures: it is empty, or cut off")
    film.seek(0)
    wanted = int((number - 0.5) * frames / count)
    return _picture(next(frame for place, frame in enumerate(film.decode(stream)) if place == wanted))


def _picture(frame: Any) -> Image.Image:
    picture: Image.Image = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if getattr(frame, "rotation", 0) else picture
