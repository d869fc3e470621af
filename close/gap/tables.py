"""Embedding tables and `.npy` files, as `close gap` reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from close.errors import DataError, MismatchError, MissingError

__all__ = ["Table", "check_tables", "load_table", "open_table"]


@dataclass(frozen=True)
class Table:
    """Rows of one modality; ids and encoder are known of embedding tables only."""

    path: Path
    rows: Any  # (N, D) array, or rows as `open_rows` gives them
    ids: Sequence[str] | None = None
    encoder: str | None = None
    fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def finder(self) -> Callable[[Any], int | None]:
        """From an id, or else a row number, to the row; None if there is no such row."""
        by_id = {name: row for row, name in enumerate(self.ids or ())}

        def find(key: Any) -> int | None:
            if isinstance(key, bool) or not isinstance(key, (int, str)):
                return None
            row = by_id.get(str(key))
            if row is None and (isinstance(key, int) or key.strip().isdecimal()) and 0 <= int(key) < len(self.rows):
                return int(key)
            return row

        return find


def load_table(path: Path, modality: str) -> Table:
    """An embedding table's folder, or a `.npy` of shape (N, D).

    Args:
        modality: "text" or "image": what it is given as.
    Raises:
        MissingError: there is nothing.
        DataError: it is no table.
        MismatchError: a table of the other modality.
    """
    if not path.exists():
        raise MissingError(f"{path}: no such .npy file or embedding table (`close embed` makes one)")
    if path.is_dir():
        from close.vectors.table import EmbeddingTable

        table = EmbeddingTable.load(path)
        if table.modality != modality:
            raise MismatchError(f"{path} holds {table.modality} embeddings, but is given as --{modality}")
        return Table(path, np.asarray(table), table.ids, table.encoder, table.fingerprint)
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a plain .npy array ({error})") from None
    if not isinstance(rows, np.ndarray):
        raise DataError(f"{path}: an archive of several arrays; give one .npy array")
    return Table(path, rows)


def open_table(path: Path) -> Table:
    """The same without reading the vectors.

    Raises:
        what `open_rows` raises.
    """
    from close.adapters import open_rows

    rows = open_rows(path)
    return Table(path, rows, rows.ids, rows.encoder, rows.fingerprint)


def check_tables(text: Table, image: Table) -> None:
    """Refuse tables of two encoders.

    Raises:
        MismatchError: their fingerprints differ.
    """
    if text.fingerprint and image.fingerprint and text.fingerprint != image.fingerprint:
        raise MismatchError(
            f"{text.path} was made with encoder {text.encoder!r} (weights {text.fingerprint[:8]}), {image.path} with "
            f"{image.encoder!r} (weights {image.fingerprint[:8]}): embed both with one"
        )
