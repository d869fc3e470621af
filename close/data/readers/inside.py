"""Pictures, recordings and films that lie inside a file: written out, because everything else reads files."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

from close.data.readers.folder import IMAGE_SUFFIXES
from close.io.files import clear_left, whole
from close.io.media import FILMS, RARE_SOUNDS, SOUND_SUFFIXES

__all__ = ["MEDIA_SUFFIXES", "Unpacked"]

MEDIA_SUFFIXES = (IMAGE_SUFFIXES, frozenset((*SOUND_SUFFIXES, *RARE_SOUNDS)), frozenset(FILMS))
"""Endings of pictures, of recordings, of films: what a row's image may be, the first kind that is there before the others."""
_BEGINNINGS = (
    (rb"RIFF.{4}WAVE", ".wav"),
    (rb"fLaC", ".flac"),
    (rb"OggS", ".ogg"),
    (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", ".mp3"),
    (rb".{4}ftypM4A", ".m4a"),
    (rb".{4}ftyp(?!avi|he|mi|ms)", ".mp4"),  # these are pictures
    (rb"\x1a\x45\xdf\xa3", ".webm"),
)
"""How recordings and films begin, where their names are lost; pictures are known by their content, whatever their ending."""
_OWN = r"[0-9a-f]{16}\.\w+"


class Unpacked:
    """Where a reader puts what lies inside its file.

    Args:
        folder: below which it goes; None where it is left where it is.
    Attributes:
        without: records that have no image.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.without, self._cleared = folder, 0, set[Path]()

    def write(self, name: str, content: bytes, below: str = "") -> str:
        """Write a file named by its content, so that none is written over, and each once; give its whole path.

        Args:
            name: where it comes from, for its ending. below: a folder in the folder.
        """
        place = Path(os.path.abspath(self.folder or "."), below)
        if place not in self._cleared:  # reading the folder for each file of it would take ever longer
            place.mkdir(parents=True, exist_ok=True)
            clear_left(place, _OWN)
            self._cleared.add(place)
        path = place / f"{hashlib.sha256(content).hexdigest()[:16]}{_ending(name, content)}"
        if not path.is_file() or path.stat().st_size != len(content):
            with whole(path, clear=False) as partial:
                partial.write_bytes(content)
        return str(path)

    def notes(self, path: Path) -> list[str]:
        """What is to be told of the file, once it has been read."""
        if not self.without or self.folder is None:
            return []
        return [f"{path}: {self.without} records have no picture, recording or film, and their rows no image"]


def _ending(name: str, content: bytes) -> str:
    """The ending that says what a file is: of its name, else as its content begins."""
    suffix = PurePosixPath(f"x{name}").suffix.lower()
    if any(suffix in kind for kind in MEDIA_SUFFIXES):
        return suffix
    return next((ending for start, ending in _BEGINNINGS if re.match(start, content, re.DOTALL)), ".jpg")
