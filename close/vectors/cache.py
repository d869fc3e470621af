"""Where embeddings made on the way are kept, so that the same text is never encoded twice."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from close.data.rows import RowFile
from close.encoders import ContrastiveEncoder
from close.errors import DataError
from close.io.files import waiting
from close.io.keys import cache_folder, file_key
from close.vectors.build import Progress, embed_images, embed_texts, images_of
from close.vectors.table import EmbeddingTable

__all__ = ["cached_images", "cached_table"]


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
        about = f"{rows.sha256} {encoder.name} {encoder.fingerprint} {encoder.precision} {modality} "
        folder = _folder(about)
        with waiting(Path(f"{folder}.lock")):  # two runs on the same data: one embeds, the other reads
            return embed_texts(rows, encoder, folder, progress=progress)
    images = images_of(rows)
    if not images:
        raise DataError(f"{rows.path}: no image in it (no row has an 'image')")
    table = cached_images(images, encoder, progress=progress)
    if failed := table.failures:
        first = failed[0]
        shutil.rmtree(table.path)
        raise DataError(
            f"{rows.path}: {table.info['failed']} of the images can't be read, the first in row {first['id']!r}: "
            f"{first['reason']}"
        )
    return table


def cached_images(
    images: Sequence[tuple[str, Path]], encoder: ContrastiveEncoder, *, progress: Progress | None = None
) -> EmbeddingTable:
    """The embedding table of (id, file) pairs, made on first use; unreadable files as in `embed_images`."""
    about = f"{encoder.name} {encoder.fingerprint} {encoder.precision} image "
    folder = _folder(about + "".join(f"{name} {file_key(path)} " for name, path in images))
    with waiting(Path(f"{folder}.lock")):
        return embed_images(images, encoder, folder, progress=progress)


def _folder(about: str) -> Path:
    return cache_folder() / "embeddings" / hashlib.sha256(about.encode()).hexdigest()[:24]
