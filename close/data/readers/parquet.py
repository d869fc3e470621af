"""Parquet: columns named as in CSV; lists of captions; pictures as a struct of bytes and path, as Hugging Face writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from close.data.readers.base import READERS, Reader, Values
from close.data.readers.lines import named_columns
from close.data.readers.webdataset import write_picture
from close.errors import DataError, reason

__all__ = ["Parquet"]


@READERS.register("parquet")
class Parquet(Reader):
    """One file, or every `.parquet` below a folder, by name. Streams batch by batch.

    Pictures inside are written out below `images`; without that option they are left where they are.
    """

    reads = "Parquet, one file or a folder of them, columns as in CSV"

    def records(self) -> Iterator[tuple[str, Any]]:
        import pyarrow
        import pyarrow.parquet

        files = sorted(self.path.rglob("*.parquet")) if self.path.is_dir() else [self.path]
        if not files:
            raise DataError(f"{self.path}: no .parquet file in this folder")
        number = 0
        for path in files:
            try:
                batches = pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=64)
                for start, batch in enumerate(batches):
                    for place, record in enumerate(batch.to_pylist(), start * 64):
                        number += 1
                        yield f"{path}: row {place}", (record, number)
            except (pyarrow.ArrowException, OSError) as error:
                raise DataError(f"{path}: not a whole Parquet file ({reason(error, whole=False)})") from None

    def row(self, record: Any, where: str) -> Values:
        values = named_columns(*record)
        values["id"] = str(values["id"])
        picture = values.get("image")
        if isinstance(picture, str):
            values["image"] = self.image(picture, where)
        elif isinstance(picture, dict) and picture.get("bytes") and self.options.images is not None:
            name = f"{record[1]:08d}{PurePosixPath(picture.get('path') or '.jpg').suffix or '.jpg'}"
            values["image"] = str(write_picture(self.options.images, name, picture["bytes"], where))
        else:
            values.pop("image", None)
        return values
