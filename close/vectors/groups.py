"""Which vectors belong to a data file's items, and which of them are of one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from close.data.rows import Row, RowFile, named_sources
from close.errors import DataError, MismatchError
from close.vectors.open import RowVectors

__all__ = ["ItemFinder", "group_labels", "known_labels", "rows_by_label"]


def group_labels(rows: RowFile, table: Any, labels_of: Callable[[Row], Sequence[str]]) -> NDArray[Any]:
    """(N,) labels of a text table's rows from the data file that it was made of: captions of one image share theirs.

    Args:
        rows: the data file. table: N texts, with `path`, and `ids` (None for a `.npy`).
        labels_of: gives one for each source of a row (`close.tasks.source_labels`).
    Raises:
        MissingError, DataError: the file is not there, or wrong.
        MismatchError: it does not have as many sources as a `.npy` has rows.
    """
    texts = ItemFinder(table)
    labels = np.array([f"\0\0{t}" for t in range(len(table))], dtype=object)
    for row in rows:
        for (name, _), label in zip(named_sources(row), labels_of(row), strict=True):
            t = texts.row([name])
            if t is not None and t < len(labels):
                labels[t] = label
    texts.check_length(rows.path)
    return labels.astype(str)


def known_labels(labels: npt.ArrayLike, count: int | None = None) -> NDArray[Any]:
    """Labels as an array that sorts; NaN would be one label of all that have none.

    Args:
        labels: (N,) of any one kind.
        count: N, where they are of so many texts.
    Raises:
        DataError: there are more or fewer, one is NaN or None or a tuple, or they are of kinds that have no order.
    """
    found = np.asarray(labels, dtype=None if hasattr(labels, "dtype") else object)  # else NaN among texts would be one
    if count is not None and found.shape != (count,):
        raise DataError(f"groups: expected a label for each of {count} texts, got shape {found.shape}")
    if found.dtype.kind not in "OfcmM":
        return found
    lost = [row for row, label in enumerate(found.reshape(-1)) if _is_none(label)]
    if lost:
        more = f" ({len(lost)} such rows)" if len(lost) > 1 else ""
        raise DataError(
            f"groups: row {lost[0]} has none ({found.reshape(-1)[lost[0]]}){more}; give a text that shares its image with no "
            "other a label of its own"
        )
    if found.ndim != 1 or any(isinstance(label, (tuple, list)) for label in found):
        raise DataError("groups: labels are tuples or lists; give one text or number for each row")
    if found.dtype.kind == "O" and len(kinds := {type(label).__name__ for label in found.reshape(-1)}) > 1:
        try:
            np.unique(found)
        except TypeError:
            raise DataError(f"groups: labels are {' and '.join(sorted(kinds))}; give all of them as text") from None
    return np.asarray(labels)


def _is_none(label: Any) -> bool:
    try:
        return label is None or bool(label != label)  # NaN and its like equal nothing
    except (TypeError, ValueError):  # pandas' NA says neither
        return True


def rows_by_label(labels: npt.ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in the order of their labels, and where each label's rows begin and end in it.

    Args:
        labels: (N,) of any kind that sorts, see `known_labels`.
    Returns:
        (N,) row numbers, those of one label in their own order; (G + 1,) bounds: label g's are `rows[bounds[g]:bounds[g + 1]]`.
    """
    numbers = np.unique(known_labels(labels), return_inverse=True)[1]
    bounds = np.concatenate(([0], np.cumsum(np.bincount(numbers))))
    return np.argsort(numbers, kind="stable"), bounds.astype(np.int64)


class ItemFinder:
    """Finds the vectors of a data file's items: by id in an embedding table; in a `.npy`, one after the other."""

    def __init__(self, table: Any) -> None:
        self.table = table
        named = table.ids is not None and not isinstance(table, RowVectors)
        self.by_id = {name: row for row, name in enumerate(table.ids)} if named else None
        self.used = 0

    def row(self, names: list[str]) -> int | None:
        """The row of the first name that is there, or in a `.npy` the next one."""
        self.used += 1
        if self.by_id is None:
            return self.used - 1
        return next((self.by_id[name] for name in names if name in self.by_id), None)

    def check_length(self, path: Path) -> None:
        """Refuse a `.npy` of another length than the data file, which has been read to its end."""
        if self.by_id is None and self.used != len(self.table):
            raise MismatchError(
                f"{path} has {self.used} items for the {len(self.table)} rows of {self.table.path}: "
                "it is not the data file that this was made of"
            )
