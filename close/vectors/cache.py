"""Where embeddings made on the way are kept, so that the same text is never encoded twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from close.data.rows import Modality, RowFile
from close.data.shards import is_rows, open_rows
from close.encoders import ContrastiveEncoder
from close.errors import CloseError, DataError
from close.io.files import may_not_write, remove, waiting
from close.io.keys import cache_folder, file_key
from close.io.parts import file_of
from close.io.progress import progress as progress_line
from close.vectors.build import Progress, embed_images, embed_texts, images_of
from close.vectors.made_by import vectors_key
from close.vectors.open import open_vectors
from close.vectors.table import FAILURES, EmbeddingTable, tell_cut

__all__ = ["cached_folder", "cached_images", "cached_table", "file_table"]

_EIGHT_BITS = (".jpg", ".jpeg", ".webp", ".gif", ".bmp")


def cached_table(
    rows: RowFile,
    encoder: ContrastiveEncoder,
    modality: str,
    *,
    progress: Progress | None = None,
) -> EmbeddingTable:
    """The embedding table of a data file's sources ("text") or files ("image"), made on first use.

    Raises:
        DataError: a file of the second modality can't be read (named): a run is never trained or scored on less than asked.
    """
    if modality == "text":
        folder = cached_folder(rows, encoder, modality)
        table = _made(folder, lambda: embed_texts(rows, encoder, folder, progress=progress))
        tell_cut(rows.path, table)
        return table
    images = _images(rows)
    try:
        table = cached_images(images, encoder, progress=progress)
    except DataError as error:
        raise DataError(f"{rows.path}: {error}") from None
    if failed := table.failures:
        first = failed[0]
        raise DataError(
            f"{rows.path}: {table.info['failed']} of the images can't be read, the first in row {first['id']!r}: "
            f"{first['reason']}"
        )
    return table


def cached_folder(rows: RowFile, encoder: ContrastiveEncoder, modality: str) -> Path:
    """Where `cached_table` keeps the table, whether it is there or not.

    Raises:
        DataError: it is of images, and there are none.
    """
    if modality != "text":
        return _images_folder(_images(rows), encoder)
    return _folder(f"{rows.sha256} {vectors_key(encoder, modality)}")


def file_table(path: Path, modality: Modality, encoder: Callable[[], ContrastiveEncoder]) -> Any:
    """What `open_vectors` gives of a table or `.npy`; of a data file, the table of its captions or images, made on first use.

    Args:
        encoder: gives the one that a data file is embedded with.
    Raises:
        CloseError: what `open_vectors`, `open_rows` or `cached_table` raise.
    """
    if not is_rows(path, images=modality == "image"):
        return open_vectors(path, modality)
    with progress_line(f"embedding {path.name}") as update:
        return cached_table(open_rows(path), encoder(), modality, progress=update)


def cached_images(
    images: Sequence[tuple[str, Path]], encoder: ContrastiveEncoder, *, progress: Progress | None = None
) -> EmbeddingTable:
    """The embedding table of (id, file) pairs, made on first use; unreadable files as in `embed_images`.

    One that lacks files which can be read by now, since a package was installed or a disk is back, is made again.
    """
    folder = _images_folder(images, encoder)

    def make() -> EmbeddingTable:
        if (folder / FAILURES).is_file():
            failed = {one["id"] for one in EmbeddingTable(folder).failures}
            lacking = (path for name, path in images if name in failed)
            if not all(isinstance(encoder.opened(path), CloseError) for path in lacking):
                remove(folder)
        try:
            return embed_images(images, encoder, folder, progress=progress)
        except DataError as error:  # whoever asks for it never named this folder
            raise DataError(str(error).removeprefix(f"{folder}: ")) from None

    return _made(folder, make)


def _made(folder: Path, make: Callable[[], EmbeddingTable]) -> EmbeddingTable:
    """What `make` makes; a table that is there, in a cache that is only read (another user's), is taken as it is."""
    try:
        with waiting(Path(f"{folder}.lock")):  # two runs on the same data: one embeds, the other reads
            return make()
    except OSError as error:
        if not (may_not_write(error) and (folder / "table.json").is_file()):
            raise
    return EmbeddingTable(folder)


def _images(rows: RowFile) -> list[tuple[str, Path]]:
    found = images_of(rows)
    if not found:
        raise DataError(f"{rows.path}: no image in it (no row has an 'image')")
    return found


def _images_folder(images: Sequence[tuple[str, Path]], encoder: ContrastiveEncoder) -> Path:
    about = vectors_key(encoder, "image")
    keyed = ((name, path, file_key(path)) for name, path in images)
    return _folder(about + "".join(f"{name} {key}{_depth(path, key)} " for name, path, key in keyed))


_DEEP = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"Pf", b"\0\0\0\x0cjP  "
"""How files of TIFF, PFM and JPEG 2000 begin."""


@cache
def _depth(path: Path, key: int) -> str:
    """What pictures of more than eight bits are kept by besides: these were read darker once. Nothing of others.

    Args:
        key: of the file, which is looked into once as long as it is the same.
    """
    file = file_of(path)
    if file.suffix.lower() in _EIGHT_BITS or not file.is_file():
        return ""
    try:
        with file.open("rb") as opened:
            head = opened.read(26)
    except OSError:  # told where it is read
        return ""
    grey_png = head.startswith(b"\x89PNG") and head[24:26] == b"\x10\0"
    return " depth" if grey_png or head.startswith(_DEEP) else ""


def _folder(about: str) -> Path:
    return cache_folder() / "embeddings" / hashlib.sha256(about.encode()).hexdigest()[:24]
