"""A folder of images, with or without a text file of captions beside each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from close.data.readers.base import READERS, Reader, Values
from close.data.text import TextFile, check_plain
from close.errors import DataError, written
from close.io.media import HEIC_SUFFIXES, media_below, picture_formats, picture_suffixes

__all__ = ["IMAGE_SUFFIXES", "Folder"]

IMAGE_SUFFIXES = frozenset(HEIC_SUFFIXES) | frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
)
"""How pictures are named in formats that say so; in a folder, whatever Pillow reads is one."""


@READERS.register("folder")
class Folder(Reader):
    """A row for each image below the folder, by name; `dog.txt` beside `dog.jpg` holds its captions, one a line.

    Each image's header is read, so that a broken file is told here and not in the middle of a long job. The first
    caption is the source, all are references.
    """

    reads = "a folder of images, with captions in a .txt beside each, or none"
    uses = ()

    def records(self) -> Iterator[tuple[str, Any]]:
        if not self.path.is_dir():
            raise DataError(f"{self.path}: is a file, expected a folder of images")
        for path in media_below(self.path, picture_suffixes()):
            yield written(path), path

    def row(self, record: Any, where: str) -> Values:
        from PIL import Image

        try:
            with Image.open(record, formats=picture_formats()):
                pass
        except Exception as error:  # of many kinds, by format; each means that it can't be read
            raise DataError(f"{where}: not an image ({error.__class__.__name__})") from None
        values: Values = {"id": written(record.relative_to(self.path).as_posix()), "image": str(record.absolute())}
        beside = record.with_suffix(".txt")
        if beside.is_file():
            text = TextFile(beside, self.options.encoding)
            check_plain(text)
            captions = [line.strip() for line in text.lines("") if line.strip()]
            text.check("".join(captions), f"{beside}:1")
            if not captions:
                raise DataError(f"{beside}: no caption in it")
            values |= {"source": captions[0], "references": captions}
        return values
