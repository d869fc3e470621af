"""Tar shards as webdataset writes them: neighbouring members of one stem (`0007.jpg`, `0007.txt`, `0007.json`) are a sample."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from close.data.columns import Columns, by_caption, check_flags, key_of
from close.data.readers.base import READERS, Values
from close.data.readers.inside import MEDIA_SUFFIXES, Unpacked
from close.data.readers.lines import TableReader
from close.data.rows import parse_json
from close.data.text import FIRST_LINES, not_plain
from close.errors import DataError, listed, shown
from close.io.files import check_file, files_below
from close.io.media import HEIC_SUFFIXES

__all__ = ["WebDataset"]

_MEDIA = (MEDIA_SUFFIXES[0] | {".img", ".image"}, *MEDIA_SUFFIXES[1:])
_TEXTS = (".txt", ".text", ".cap", ".caption")
_SORTED = "pack the shard in order of name (tar --sort=name)"
_BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError)


@READERS.register("webdataset")
class WebDataset(TableReader):
    """One tar, or every tar below a folder, by name. Streams, one sample in memory.

    Source: the `.txt` (`.cap`, `.outputs.txt`, …; `columns` says which), or a caption in the `.json`, whose other fields go to
    `meta`, and so do captions that differ from the `.txt`'s. Of several lines the first is the source, and all are references,
    as in a folder. Pictures, or else recordings or films, are written out below `images`, in a folder for each shard and named by
    their content, because everything else reads files; without that option they are left where they are.
    """

    reads = "tar shards as webdataset writes them, one or a folder of them"
    uses = ("images", "columns")

    def found(self) -> Iterator[tuple[str, Any]]:
        shards = files_below(self.path, ".tar") if self.path.is_dir() else [self.path]
        if not shards:
            raise DataError(f"{self.path}: no .tar file in this folder")
        self.unpacked = Unpacked(self.options.images)
        yield from self._records(shards)
        self.notes += self.unpacked.notes(self.path)

    def _records(self, shards: list[Path]) -> Iterator[tuple[str, Any]]:
        for shard in shards:
            key, dotted = "", ""
            name = (shard.relative_to(self.path) if shard != self.path else Path(shard.name)).with_suffix("").as_posix()
            try:
                for key, sample in _samples(shard):
                    if "." in PurePosixPath(key).name and not dotted:
                        dotted = f"{shard}: names with dots are taken whole, e.g. {shown(key)}; webdataset cuts at the first dot"
                        self.notes.append(dotted)
                    yield f"{shard}: sample {shown(key)}", (name, key, sample)
            except DataError as error:
                yield str(shard), error
            except _BROKEN as error:
                yield str(shard), DataError(f"{shard}: after sample {shown(key)}: not a whole tar file ({error})")

    def rows(self, record: Any, where: str) -> list[Values]:
        shard, key, sample = record
        if sample is None:
            raise DataError(
                f"{where}: its parts do not lie side by side, as webdataset's own reader needs them; {_SORTED}"
            )
        fields = self._fields(sample, where)
        check_flags(fields)
        given = {name: column for name, column in self.given.items() if str(column) in fields}
        columns = Columns(fields, given, where, demand=False)
        values = columns.values(fields, where)
        picture = self._part("image", _MEDIA, sample, fields, where)
        caption = self._part("caption", (_TEXTS,), sample, fields, where)
        said = self._captions(sample[caption], f"{where}: {caption}") if caption else {}
        own = {"id", "image", *(("source", "references") if caption else ())}  # what a sample has already
        others = {name: fields.get(name) for name, keys in columns.keys.items() if own & {*keys}}
        meta = {name: value for name, value in others.items() if value not in (None, "", said.get("source"))}
        values = {key: value for key, value in values.items() if key not in own} | said
        if not values.get("source") and not values.get("references"):
            raise DataError(
                f"{where}: no caption in it (it has {listed(sample)}); the parts of a sample lie side by side, else {_SORTED}"
                + ("" if self.given else "; --columns caption=SUFFIX says which part or field of .json it is")
            )
        if ".cls" in sample:
            meta["cls"] = self._text(sample[".cls"], f"{where}: .cls").strip()
        if meta := values.get("meta", {}) | meta:
            values["meta"] = meta
        if picture and self.options.images is not None:
            path = self.unpacked.write(picture, sample[picture], shard)
            values |= {"group": values.get("group", Path(path).name), "image": path}
        self.unpacked.without += not picture
        return by_caption(values, f"{shard}/{key}")

    def row(self, record: Any, where: str) -> Values:
        return dict(record)  # its files have been written here

    def _captions(self, content: bytes, where: str) -> Values:
        """Source and references of a text, one caption a line; of a single caption, the source alone."""
        lines = [line.strip() for line in io.StringIO(self._text(content, where), newline=None) if line.strip()]
        if len(lines) > 1 and (found := not_plain(lines[:FIRST_LINES])) is not None:
            raise DataError(f"{where}: expected one caption a line, but this looks like {found}")
        return {"source": lines[0] if lines else ""} | ({"references": lines} if len(lines) > 1 else {})

    def _part(
        self, key: str, kinds: Sequence[Container[str]], sample: dict[str, bytes], fields: Values, where: str
    ) -> str | None:
        """The part of a sample that is its image, or its caption: as `columns` say, else by its suffix, of the first kind."""
        for column in (str(column) for name, column in self.given.items() if key_of(name) == key_of(key)):
            if (part := f".{column.lstrip('.').lower()}") in sample:
                return part
            if column not in fields:
                raise DataError(f"{where}: no {shown(column)} for {key!r}; it has {listed([*sample, *fields])}")
            return None
        suffixes = {part: PurePosixPath(f"x{part}").suffix for part in sample}
        of_kinds = ([part for part in sample if suffixes[part] in kind] for kind in kinds)
        found: list[str] = next(filter(None, of_kinds), [])
        found = [
            part for part in found if suffixes[part] not in HEIC_SUFFIXES
        ] or found  # which needs a package to be read
        plain = [part for part in found if part.count(".") == 1]
        if len(found) > 1 and not plain:
            raise DataError(
                f"{where}: which part is the {key}, {listed(found)}? --columns {key}={listed(found)[1:].partition(',')[0]}"
            )
        return next(iter(plain or found), None)

    @property
    def given(self) -> Mapping[str, str | int]:
        """What parts and fields are, as the caller says."""
        return self.options.columns or {}

    def _fields(self, sample: dict[str, bytes], where: str) -> Values:
        if ".json" not in sample:
            return {}
        values = parse_json(self._text(sample[".json"], f"{where}: .json"), f"{where}: .json")
        if not isinstance(values, dict):
            raise DataError(f"{where}: .json: expected an object")
        return values

    def _text(self, content: bytes, where: str) -> str:
        try:
            return content.decode(self.options.encoding).removeprefix("\ufeff")
        except UnicodeError:
            raise DataError(f"{where}: not {self.options.encoding.upper()}") from None


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes] | None]]:
    """Yield (key, suffix to content) of the neighbouring members of one stem; no content for a stem that comes again.

    webdataset's own reader would make two samples of that one, each with a part of it, and refuses a member that comes twice.
    """
    check_file(shard, "a tar file")
    key, sample, seen = "", dict[str, bytes](), set[int]()
    with tarfile.open(shard, "r|*") as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # else it keeps a list of all
            file = archive.extractfile(member) if member.isreg() else None
            if file is None:
                continue
            stem, dot, suffix = PurePosixPath(member.name).name.partition(".")
            name = str(PurePosixPath(member.name).parent / stem)
            whole_name = _whole(sample, suffix)
            if sample and (name != key or whole_name):
                yield from _closed(key, sample, seen)
                sample = {}
            key, part = name, f"{dot}{suffix}".lower()
            if part in sample:
                raise DataError(
                    f"{shard}: sample {shown(key)}: two members are its {part or 'whole name'}, of one name or but for case"
                )
            sample[part] = file.read()
    if sample:
        yield from _closed(key, sample, seen)


def _whole(sample: dict[str, bytes], suffix: str = "") -> str:
    """What belongs to the name of a sample with dots, `.v1.0` of `img.v1.0.jpg` and `img.v1.0.txt`; "" where parts have names.

    Args:
        suffix: of the next member; a sample goes on as long as that has the same.
    """
    middles = {PurePosixPath(f"x{part}").stem[1:] for part in sample}
    if len(sample) < 2 or len(middles) > 1 or middles == {""}:
        return ""
    middle = middles.pop()
    return "" if suffix and PurePosixPath(f"x.{suffix.lower()}").stem[1:] == middle else middle


def _closed(key: str, sample: dict[str, bytes], seen: set[int]) -> Iterator[tuple[str, dict[str, bytes] | None]]:
    middle = _whole(sample)
    name = key + middle
    yield name, None if hash(name) in seen else {part.removeprefix(middle): content for part, content in sample.items()}
    seen.add(hash(name))
