"""Tables of vectors that an encoder of one's own made: rows of numbers, beside the rows of data that they are of."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from close.data.rows import Modality, RowFile, named_images, named_sources
from close.data.shards import open_rows
from close.errors import DataError, MismatchError
from close.vectors.table import EmbeddingTable

__all__ = ["table_of_vectors"]


def table_of_vectors(
    vectors: Any,
    rows: RowFile | str | Path,
    folder: str | Path,
    *,
    encoder: str,
    modality: Modality = "text",
    fingerprint: str | None = None,
) -> EmbeddingTable:
    """The table of vectors made elsewhere, in the rows' order: one for each source text, or for each image.

    Args:
        vectors: (N, D) array, or the path of a `.npy` or of a folder of such parts.
        rows: or their data file; their ids name the vectors; of a row that names no image, one is of the row itself.
        folder: of the table; nothing is left there where it is refused.
        encoder: what the recipe will call it; it need not be one that can be loaded here.
        modality: what the vectors are of, "text" or "image".
        fingerprint: of the encoder's weights; without it one of its name, so that all that has the name goes together.
    Raises:
        MismatchError: there are more or fewer vectors than texts or images. MissingError: there is no such file.
        DataError: not (N, D), a row is zero or not finite (named), or no row has a source.
        OutputExistsError: the folder is there already, and holds something else.
    """
    rows, named = open_rows(rows), list[tuple[str, Any]]()
    for row in rows:
        named += named_sources(row) if modality == "text" else named_images(row) or [(row.id, row.image)]
    if not named:
        raise DataError(f"{rows.path}: no row has a 'source' text that a vector could be of")
    about: dict[str, Any] = {"encoder": encoder, "modality": modality, "ids": [name for name, _ in named]}
    about["fingerprint"] = fingerprint or hashlib.sha256(f"named {encoder}".encode()).hexdigest()[:32]
    about["texts"] = [text for _, text in named] if modality == "text" else None
    try:
        return EmbeddingTable.from_numpy(vectors, folder, of_rows=True, rows_sum=rows.sha256, **about)
    except MismatchError as error:
        what = "'source' texts" if modality == "text" else "images, a row each,"
        where = f"{vectors}: " if isinstance(vectors, (str, Path)) else ""
        raise MismatchError(
            f"{where}{error}: {rows.path} has {len(named)} {what} and each needs a vector, in their order"
        ) from None
