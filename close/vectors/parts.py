"""Embeddings in many `.npy` files, as clip-retrieval and embedding-reader have them: `img_emb/img_emb_0.npy`, and on."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.data.rows import Modality
from close.errors import DataError
from close.vectors.arrays import map_array
from close.vectors.part_names import PartNames, part_number

__all__ = ["JoinedArrays", "find_parts", "has_parts", "is_plain"]

_log = logging.getLogger(__name__)
_SIDES: dict[Modality, re.Pattern[str]] = {
    "image": re.compile(r"(?:^|[^a-z])(?:ima?ge?s?|photos?|audio|visual)(?:[^a-z]|$)", re.IGNORECASE),
    "text": re.compile(r"(?:^|[^a-z])(?:te?xts?|captions?)(?:[^a-z]|$)", re.IGNORECASE),
}
"""How people call the two sides, in names of folders and of files."""


class JoinedArrays:
    """(N, D) rows of several `.npy` files, one after the other; memory-mapped, and read where they are asked for.

    Attributes:
        names: of the rows, where metadata lie beside the parts.
    Raises:
        MissingError, DataError: a part can't be read, is no (N, D) array of floats, or is of another width; it is named.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts = [map_array(path) for path in parts]
        for path, part in zip(parts, self._parts, strict=True):
            if part.ndim != 2 or part.dtype.kind != "f":
                raise DataError(
                    f"{path}: expected (N, D) floating-point numbers, found {part.dtype} of shape {part.shape}"
                )
            if part.shape[1] != self._parts[0].shape[1]:
                raise DataError(
                    f"{path}: rows of {part.shape[1]} numbers, those of {parts[0]} have {self._parts[0].shape[1]}"
                )
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self.shape: tuple[int, int] = (int(self._starts[-1]), self._parts[0].shape[1])
        self.dtype = np.result_type(*(part.dtype for part in self._parts))
        self.names = PartNames.beside(parts, list(map(len, self._parts)))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if len(self._parts) == 1:
            return np.asarray(self._parts[0][index])
        rows = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else np.where(rows < 0, rows + len(self), rows)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        out = np.empty((*rows.shape, self.shape[1]), self.dtype)
        for owner in np.unique(owners):
            out[owners == owner] = self._parts[owner][rows[owners == owner] - self._starts[owner]]
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts), dtype=dtype)


def has_parts(folder: Path) -> bool:
    """Whether a folder holds embeddings in parts, or two folders of them, one a side."""
    return bool(_npy(folder)) or any(map(_npy, _inner(folder)))


def is_plain(place: Path) -> bool:
    """Whether a place is a `.npy` file, or a folder of such parts."""
    return place.suffix.lower() == ".npy" or (place.is_dir() and has_parts(place))


def find_parts(folder: Path, modality: Modality | None = None) -> list[Path]:
    """The `.npy` files of a folder in the order of their numbers; of one side, where files or folders of both lie there.

    Raises:
        DataError: there is none, files of several kinds, or two of one number.
    """
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in _npy(folder) or [path for inner in _inner(folder) for path in _npy(inner)]:
        kinds[f"{path.relative_to(folder).parent / re.sub(r'[_.-]*[0-9]+$', '', path.stem)}"].append(path)
    if len(kinds) > 1 and modality:
        kinds = {name: paths for name, paths in kinds.items() if _SIDES[modality].search(name)}
    if len(kinds) != 1:
        found = (
            f"several kinds of .npy files ({', '.join(sorted(kinds))})"
            if kinds
            else f"no .npy file of {modality or 'any'}"
        )
        raise DataError(f"{folder}: {found}; give one kind, as a file or in a folder of its own")
    (paths,) = kinds.values()
    numbered = {part_number(path): path for path in paths}
    if len(numbered) != len(paths):
        raise DataError(f"{folder}: two parts of one number ({', '.join(sorted(path.name for path in paths)[:6])}, …)")
    missing = sorted(set(range(min(numbered), max(numbered))) - set(numbered))
    if missing:
        _log.warning("%s: parts are missing (%s); those after them follow at once", folder, str(missing[:9])[1:-1])
    return [numbered[number] for number in sorted(numbered)]


def _npy(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npy") if path.is_file() and not path.name.startswith("."))


def _inner(folder: Path) -> list[Path]:
    sides = "|".join(f"(?:{side.pattern})" for side in _SIDES.values())
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and re.search(sides, path.name, re.IGNORECASE)]
