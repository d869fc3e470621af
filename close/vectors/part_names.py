"""What the rows of `.npy` parts are called: clip-retrieval writes `metadata/metadata_0.parquet` for `img_emb/img_emb_0.npy`."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from close.data.columns import Columns
from close.errors import DataError, reason, written
from close.io.files import check_file

__all__ = ["PartNames", "part_number"]

_log = logging.getLogger(__name__)
_OTHERS = ("key", "url")
"""Columns of img2dataset's that name a row, where there is neither an id nor a file."""


def part_number(path: Path) -> int:
    """The number that a part's name ends with; 0 without one."""
    found = re.search(r"[0-9]+$", path.stem)
    return int(found[0]) if found else 0


class PartNames(Sequence[str]):
    """Names of the rows of parts, read when the first is asked for: ids, files, keys or URLs, else captions.

    A name that comes again is told apart by its number: `a.jpg`, `a.jpg#2`.

    Args:
        files: Parquet, one for each part.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    @classmethod
    def beside(cls, parts: Sequence[Path], rows: Sequence[int]) -> PartNames | None:
        """Those of parts with so many rows; None where there is no file for each, with a name in it for each row (told)."""
        found = _metadata(parts)
        files = [path for path in found if path is not None]
        if not files:
            return None
        try:
            if len(files) < len(found):
                raise DataError(f"{files[0].parent}: no metadata for {parts[found.index(None)].name}")
            for path, part, count in zip(files, parts, rows, strict=True):
                column, lines = _column(path)
                if lines != count or column is None:
                    what = f"{lines} rows" if column else "no column that names rows"
                    raise DataError(f"{path}: {what}, where {part.name} has {count}")
        except DataError as error:
            _log.warning("%s; rows are called by their numbers", error)
            return None
        return cls(files)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = self._names[index]
        return list(map(str, found.to_pylist())) if isinstance(index, slice) else str(found.as_py())

    def __iter__(self) -> Iterator[str]:
        for chunk in self._names.chunks:
            yield from chunk.to_pylist()

    @cached_property
    def _names(self) -> Any:
        """As Arrow has them, some tens of bytes each.

        Raises:
            DataError: a file is damaged.
        """
        import pyarrow as pa

        chunks, times, given, row = list[Any](), Counter[str](), set[str](), 0
        for path in self.files:
            names = []
            for value in _read(path, str(_column(path)[0])):
                own = name = str(row) if value in (None, "") else written(value)
                while name in given:
                    times[own] += 1
                    name = f"{own}#{times[own] + 1}"
                given.add(name)
                names.append(name)
                row += 1
            chunks.append(pa.array(names, pa.large_string()))
        return pa.chunked_array(chunks, pa.large_string())


def _metadata(parts: Sequence[Path]) -> list[Path | None]:
    """The file that has each part's number: beside it, or in the folder `metadata` beside it or its folder."""
    known: dict[Path, dict[int, Path]] = {}

    def of(part: Path) -> Path | None:
        for folder in (part.parent, part.parent.parent / "metadata", part.parent / "metadata"):
            if folder not in known:
                known[folder] = {
                    part_number(path): path for path in sorted(folder.glob("metadata*.parquet"), reverse=True)
                }
            if path := known[folder].get(part_number(part)):
                return path
        return None

    return list(map(of, parts))


def _column(path: Path) -> tuple[str | None, int]:
    """The column that names rows best, and how many rows there are."""
    from pyarrow import types

    file = _opened(path)
    kinds = (types.is_string, types.is_large_string, types.is_integer, types.is_dictionary)
    names = [field.name for field in file.schema_arrow if any(is_kind(field.type) for is_kind in kinds)]
    keys = {key: name for name, keys in Columns(names, None, str(path), demand=False).keys.items() for key in keys}
    others = {name.lower(): name for name in names}
    order = [keys.get("id"), keys.get("image"), *map(others.get, _OTHERS), keys.get("source")]
    return next(filter(None, order), None), int(file.metadata.num_rows)


def _opened(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        check_file(path)
        return pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a whole Parquet file ({reason(error, whole=False)})") from None


def _read(path: Path, column: str) -> list[Any]:
    import pyarrow

    try:
        found: list[Any] = _opened(path).read([column]).column(0).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not a whole Parquet file ({reason(error, whole=False)})") from None
    return found
