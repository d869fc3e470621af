"""Tar shards as webdataset writes them: neighbouring members of one stem (`0007.jpg`, `0007.txt`, `0007.json`) are a sample."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from close.data.readers.base import READERS, Reader, Values
from close.data.readers.folder import IMAGE_SUFFIXES
from close.data.readers.lines import named_columns
from close.errors import DataError
from close.io.files import whole

__all__ = ["WebDataset", "write_picture"]


@READERS.register("webdataset")
class WebDataset(Reader):
    """One tar, or every tar below a folder, by name. Streams, one sample in memory.

    Source: the `.txt`, or a caption in the `.json`, whose other fields go to `meta`. Pictures are written out below
    `images`, because everything else reads files; without that option they are left where they are.
    """

    reads = "tar shards as webdataset writes them, one or a folder of them"

    def records(self) -> Iterator[tuple[str, Any]]:
        shards = sorted(self.path.rglob("*.tar")) if self.path.is_dir() else [self.path]
        if not shards:
            raise DataError(f"{self.path}: no .tar file in this folder")
        for shard in shards:
            for key, sample in _samples(shard):
                yield f"{shard}: sample {key!r}", (shard.stem, key, sample)

    def row(self, record: Any, where: str) -> Values:
        shard, key, sample = record
        values = named_columns(_fields(sample, where), 0) | {"id": f"{shard}/{key}"}
        values.pop("image", None)
        picture = next((suffix for suffix in sample if suffix in IMAGE_SUFFIXES), None)
        if ".txt" in sample:
            values["source"] = _text(sample[".txt"], f"{where}: .txt").strip()
        if picture and self.options.images is not None:
            values["image"] = str(write_picture(self.options.images, f"{shard}/{key}{picture}", sample[picture], where))
        if "source" not in values and "image" not in values:
            raise DataError(f"{where}: no caption in it; to take its picture, say into which folder (images)")
        return values


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, suffix to content) of the neighbouring members of one stem."""
    key, sample = "", dict[str, bytes]()
    try:
        with tarfile.open(shard, "r|*") as archive:
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # else it keeps a list of all
                file = archive.extractfile(member) if member.isfile() else None
                if file is None:
                    continue
                stem, dot, suffix = PurePosixPath(member.name).name.partition(".")
                name = str(PurePosixPath(member.name).parent / stem)
                if name != key and sample:
                    yield key, sample
                    sample = {}
                key = name
                sample[f"{dot}{suffix}".lower()] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{shard}: after sample {key!r}: not a whole tar file ({error})") from None
    if sample:
        yield key, sample


def _fields(sample: dict[str, bytes], where: str) -> Values:
    if ".json" not in sample:
        return {}
    try:
        values = json.loads(_text(sample[".json"], f"{where}: .json"))
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: .json: not JSON ({error.msg})") from None
    if not isinstance(values, dict):
        raise DataError(f"{where}: .json: expected an object")
    return values


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{where}: not UTF-8") from None


def write_picture(folder: Path, name: str, content: bytes, where: str) -> Path:
    """Write a picture below the folder, never outside of it."""
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents:
        raise DataError(f"{where}: its name leads out of {folder}")
    with whole(path) as partial:
        partial.write_bytes(content)
    return path
