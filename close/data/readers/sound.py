"""Captions of recordings: AudioCaps' CSV and DRCap's JSONL. (Clotho's CSV is a table, `csv`; WSAC's lists are `json`.)"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from close.data.columns import Skip
from close.data.readers.base import READERS, Reader, Values, text
from close.data.readers.lines import TableReader, json_records
from close.data.tables import Table
from close.data.text import TextFile
from close.errors import DataError, MissingError, listed
from close.io.media import FILMS, RARE_SOUNDS, SOUND_SUFFIXES

__all__ = ["AudioCaps", "DrCap"]


@READERS.register("audiocaps")
class AudioCaps(TableReader):
    """`audiocap_id,youtube_id,start_time,caption` (Kim et al., 2019), a row a caption; its test set has five of each clip.

    In `images` the clips are found by the names that downloads give them: `ID.wav`, `YID.wav`, or `ID_` and the start, recordings
    before films, and what else soundfile reads last; captions whose clip is not there, as of many it no longer is, are left out
    and counted. Streams; with `per` image, captions are held in memory.
    """

    reads = "AudioCaps' CSV; --images is the folder of the clips"
    uses = ("images", "per")

    def found(self) -> Iterator[tuple[str, Any]]:
        self.table = Table(TextFile(self.path, self.options.encoding), None)
        if "youtube_id" not in self.table.columns.names:
            raise DataError(f"{self.path}:1: no column 'youtube_id'; there are {listed(self.table.columns.names)}")
        for number, _, line in self.table.records():
            yield f"{self.path}:{number}", (str(number), line)

    def rows(self, record: Any, where: str) -> list[Values]:
        number, line = record
        found = self.table.rows(line, where, number)
        clips = self._clips if self.options.images else None
        for values in found:
            if clips is not None:
                if values.get("group") not in clips:
                    raise Skip("no recording")
                values["image"] = clips[values["group"]]
        return found

    def row(self, record: Any, where: str) -> Values:
        return dict(record)  # its file is one of the folder's

    @cached_property
    def _clips(self) -> dict[str, str]:
        """Each video's file. Its id has 11 characters, which may be underscores."""
        folder = Path(self.pictures)
        if not folder.is_dir():
            raise MissingError(f"{folder}: no such folder of recordings")
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        found: dict[str, str] = {}
        for kinds, name in product((SOUND_SUFFIXES, FILMS, _OTHERS), names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in kinds:  # what else a download leaves beside a clip
                continue
            for start in (0, 1) if stem.startswith("Y") else (0,):
                rest = stem[start + _ID :]
                if len(stem) >= start + _ID and (not rest or rest[0] in "_-."):
                    found.setdefault(stem[start : start + _ID], str(folder / name))
        return found


_ID = 11
_OTHERS = (*RARE_SOUNDS, "")
"""The last is a download without an ending."""


@READERS.register("drcap")
class DrCap(Reader):
    """`{"key", "source", "target", "similar_captions"}` a line (Li et al., 2024): `source` is the recording, `target` its
    caption.

    Source and target of a row are the caption; `similar_captions`, which DRCap retrieves beforehand, are kept in `meta`, and so
    is the path of the recording, unless `images` is the folder where it is looked for by its name. Streams.
    """

    reads = "DRCap's JSONL (key, source, target); --images is the folder of the recordings"

    def records(self) -> Iterator[tuple[str, Any]]:
        yield from json_records(self.path, self.options.encoding)

    def row(self, record: Any, where: str) -> Values:
        caption = text(record, "target", where)
        values: Values = {"id": where.rpartition(":")[2], "source": caption, "target": caption}
        if isinstance(record.get("key"), str):
            values["group"] = record["key"]
        kept = {key: record[key] for key in ("source", "similar_captions") if record.get(key)}
        if self.options.images and isinstance(record.get("source"), str):
            values["image"] = self.image(os.path.basename(kept.pop("source")), where)
        return values | {"meta": kept}
