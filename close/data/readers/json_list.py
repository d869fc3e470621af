"""Lists of records as people write them, BLIP and LLaVA among them: `[{"image": "a.jpg", "caption": "…" | ["…"]}]`.

A record may be a caption alone, as in WSAC's lists. The list may lie under a key (`{"annotations": […]}`), and an object may
stand for it: `{"a.jpg": "…"}`, or `["…"]`, or a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from close.data.columns import Columns, Skip, by_caption, check_flags, is_known
from close.data.readers.base import READERS, Values
from close.data.readers.inside import MEDIA_SUFFIXES
from close.data.readers.json_stream import first_items, json_items, json_pairs
from close.data.readers.lines import TableReader
from close.errors import DataError, listed, shown

__all__ = ["JsonList"]

_BESIDE = ("licenses", "categories", "info")
"""Lists that lie beside that of the records, as in COCO."""


@READERS.register("json")
class JsonList(TableReader):
    """Keys of records are what columns of a table are. Streams; with `per` image, captions are held in memory."""

    reads = "a JSON list of records, their keys as columns in CSV, or of captions: BLIP, LLaVA, WSAC"

    def found(self) -> Iterator[tuple[str, Any]]:
        self._known: Columns | None = None
        for number, (where, record) in enumerate(self._records()):
            yield where, (number, record)

    def _records(self) -> Iterator[tuple[str, Any]]:
        found = first_items(self.path, encoding=self.options.encoding)
        if found is None:
            yield from json_items(self.path, encoding=self.options.encoding)
            return
        lists = [key for key, item in found.items() if isinstance(item, dict) and key not in _BESIDE]
        if len(lists) > 1:
            raise DataError(
                f"{self.path}: several lists of records ({listed(lists)}); it may be in the format coco, nocaps or vqa"
            )
        if lists:
            yield from json_items(self.path, lists[0], encoding=self.options.encoding)
            return
        for where, name, value in json_pairs(self.path, encoding=self.options.encoding):
            suffix = PurePosixPath(name).suffix.lower()
            own = "image" if any(suffix in kind for kind in MEDIA_SUFFIXES) else "id"
            yield where, {own: name} | (value if isinstance(value, dict) else {"caption": value})

    def rows(self, record: Any, where: str) -> list[Values]:
        number, record = record
        if isinstance(record, str):
            if is_known(record):
                raise Skip("a column's name")  # WSAC's lists hold the first line of the CSV that they were made of
            record = {"caption": record}
        if not isinstance(record, dict):
            raise DataError(f"{where}: expected an object, found {shown(record)}")
        if {"sentences", "filename"} <= record.keys():
            raise DataError(f"{where}: it may be in the format karpathy")
        if "conversations" in record and not self.options.columns:
            raise DataError(f"{where}: LLaVA's conversations are not read; its lists of captions (blip_caption) are")
        check_flags(record)
        if self._known is None or self._known.names != list(record):  # the same keys in most
            self._known = Columns(record, self.options.columns, where)
        values = self._known.values(record, where)
        return by_caption(values, str(number), split=self.per == "caption")
