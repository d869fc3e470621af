"""TextCaps: `{"data": [{"image_id", "image_path", "caption_id", "caption_str", "reference_strs"}]}`, one record a caption.

Sidorov et al. (2020), "TextCaps: a Dataset for Image Captioning with Reading Comprehension".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from close.data.columns import check_flags
from close.data.readers.base import READERS, Reader, Values, get, text
from close.data.readers.json_stream import json_items

__all__ = ["TextCaps"]


@READERS.register("textcaps")
class TextCaps(Reader):
    """A row for each caption, or for each image, in the order of the file; the test set has no captions. Streams."""

    reads = "TextCaps' files: TextCaps_0.1_train.json"
    uses = ("images", "per")

    def records(self) -> Iterator[tuple[str, Any]]:
        seen = set[int]()
        for where, record in json_items(self.path, "data", encoding=self.options.encoding):
            image = hash(str(record.get("image_id"))) if isinstance(record, dict) else 0
            if self.per == "caption" or image not in seen:
                yield where, record
            seen.add(image)

    def row(self, record: Any, where: str) -> Values:
        image = get(record, "image_id", (str, int), where)
        check_flags(record)
        values = {"group": image, "image": self.image(get(record, "image_path", str, where), where)}
        if "caption_str" not in record:
            return values | {"id": image}
        references = [
            one.strip() for one in get(record, "reference_strs", list, where) if isinstance(one, str) and one.strip()
        ]
        if self.per == "image":
            return values | {"id": image, "references": references}
        key = get(record, "caption_id", (int, str), where)
        return values | {"id": key, "source": text(record, "caption_str", where), "references": references}
