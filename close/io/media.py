"""Files of the second modality: which of a folder's files they are, and what their names are where text is kept."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from close.errors import DataError, MissingError, written
from close.io.files import walk

__all__ = [
    "FILMS",
    "HEIC_HINT",
    "HEIC_SUFFIXES",
    "RARE_SOUNDS",
    "SOUND_SUFFIXES",
    "check_photos",
    "describe",
    "is_one",
    "media_below",
    "missing_file",
    "picture_formats",
    "picture_suffixes",
    "some",
]

_log = logging.getLogger(__name__)
FILMS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ogv", ".flv", ".wmv", ".3gp", ".ts")
"""How names of films end, in lower case."""
SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
RARE_SOUNDS = (".opus", ".aif", ".aiff", ".au", ".caf", ".w64")
"""Rarer recordings, which soundfile reads too."""
_NO_PICTURES = ("EPS", "MPEG")
"""What Pillow lists and can't be had: PostScript is run as a program, by Ghostscript; of films it reads the size alone."""
HEIC_SUFFIXES = (".heic", ".heif", ".hif")
HEIC_HINT = "HEIC is read with pip install 'close-toolkit[heic]', or saved as JPEG first"
"""What to do about phones' photos where the package that reads them is not installed."""


@cache
def picture_formats() -> tuple[str, ...]:
    """Names of the formats that Pillow decodes by itself here, HEIC included where pillow-heif is installed."""
    from PIL import Image, ImageFile

    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    kinds = {name: factory for name, (factory, _) in Image.OPEN.items() if name not in _NO_PICTURES}
    stubs = {
        name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, ImageFile.StubImageFile)
    }
    return tuple(sorted(kinds.keys() - stubs))


@cache
def picture_suffixes() -> tuple[str, ...]:
    """How names of files of these formats end, in lower case."""
    from PIL import Image

    formats = set(picture_formats())
    return tuple(sorted(end for end, name in Image.registered_extensions().items() if name in formats))


def describe(item: Any, number: int | None = None) -> str:
    """How a message or a result names an item: its file, or its kind, its number among those given, and its size."""
    name = (
        item if isinstance(item, (str, os.PathLike)) else getattr(item, "filename", None) or getattr(item, "name", None)
    )
    if isinstance(name, (str, os.PathLike)) and str(name):
        return written(name)
    size = getattr(item, "shape", None) or getattr(item, "size", None)
    about = (
        "×".join(map(str, size))
        if isinstance(size, tuple)
        else f"{len(item):,} bytes"
        if isinstance(item, bytes)
        else ""
    )
    which = type(item).__name__ if number is None else f"{type(item).__name__} {number}"
    return f"{which} ({about})" if about else which


def missing_file(what: str, path: Path) -> MissingError:
    """The error of a picture or a recording that is no file.

    Args:
        what: "image" or "recording".
    """
    return MissingError(f"{what} {path}: no such file" + " (it is a folder, a pipe or a device)" * path.exists())


def check_photos(place: str | Path) -> None:
    """Refuse a file or folder of photos, or rows with images in their place, that is not there.

    Raises:
        DataError: it is not.
    """
    if not Path(place).exists():
        raise DataError(f"{place}: no such file or folder; expected photos, or rows with images")


def some(suffixes: Sequence[str]) -> str:
    """Endings as a message names them: the first, and how many more there are."""
    common = [end for end in (".jpg", ".png", ".webp", ".wav", ".mp3") if end in suffixes] or list(suffixes[:3])
    more = len(suffixes) - len(common)
    return ", ".join(common) + (f" and {more} more endings" if more else "")


def media_below(folder: Path, suffixes: Sequence[str], *, quiet: bool = False) -> list[Path]:
    """A folder's files with these endings, at any depth and in order; what else lies there is counted and told.

    Linked folders are read like others. Hidden files and folders are passed over, and so are `._x.jpg`, which macOS leaves on
    other disks, and files that lie beside one of these and have its name (`x.txt` to `x.jpg`), unless they are films.

    Args:
        quiet: nothing is told.
    """
    found, others = list[Path](), list[Path]()
    for place, folders, names in walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            (found if path.suffix.lower() in suffixes else others).append(path)
    named = {path.with_suffix("") for path in found}
    left = Counter(
        path.suffix.lower() or "no ending"
        for path in others
        if path.with_suffix("") not in named or path.suffix.lower() in FILMS
    )
    heic = ".jpg" in suffixes and any(end in left for end in HEIC_SUFFIXES)
    if left and (found or heic) and not quiet:
        kinds = ", ".join(f"{count} × {end}" for end, count in left.most_common(5)) + (", …" if len(left) > 5 else "")
        films = "; films are read by their frames (frames=N, --frames N)" if set(left) & set(FILMS) else ""
        photos = f"; {HEIC_HINT}" if heic else ""
        _log.warning("%s: other files are left out: %s%s%s", written(folder), kinds, films, photos)
    return sorted(found)


def is_one(items: Any) -> bool:
    """Whether this is one item, though it may be a sequence of characters, bytes, lines or numbers."""
    if isinstance(items, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(items, "read"):
        return True
    kind = getattr(getattr(items, "dtype", None), "kind", None)  # names in an array or a table's column are several
    return kind not in ("O", "U", "T") if hasattr(items, "dtype") else not isinstance(items, Iterable)
