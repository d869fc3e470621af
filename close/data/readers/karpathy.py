"""The Karpathy splits of COCO, Flickr8k and Flickr30k.

`{"images": [{"filename", "filepath"?, "split", "imgid", "cocoid"?, "sentences": [{"raw", "sentid", …}]}]}`.
Karpathy and Fei-Fei (2015), "Deep Visual-Semantic Alignments for Generating Image Descriptions".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from close.data.columns import check_flags
from close.data.readers.base import READERS, Reader, Values, get, text
from close.data.readers.json_stream import json_items

__all__ = ["Karpathy"]


@READERS.register("karpathy")
class Karpathy(Reader):
    """A row for each sentence or image; `split` chooses. COCO's usual training set is `split=("train", "restval")`.

    Streams image by image.
    """

    reads = "Karpathy's splits: dataset_coco.json, dataset_flickr30k.json"
    uses = ("images", "per", "split")

    def records(self) -> Iterator[tuple[str, Any]]:
        for where, image in json_items(self.path, "images", encoding=self.options.encoding):
            sentences = get(image, "sentences", list, where)
            if self.per == "image":
                yield where, (image, sentences)
            else:
                yield from ((f"{where}.sentences[{n}]", (image, one)) for n, one in enumerate(sentences))

    def row(self, record: Any, where: str) -> Values:
        image, found = record
        self.in_split(get(image, "split", str, where))
        check_flags(found if isinstance(found, dict) else {})
        folder = get(image, "filepath", str, where) if "filepath" in image else ""
        name = str(PurePosixPath(folder) / get(image, "filename", str, where))
        key = image["cocoid"] if "cocoid" in image else get(image, "imgid", int, where)
        values = {"image": self.image(name, where), "meta": {"split": image["split"]}}
        if self.per == "image":
            return {"id": key, "references": [text(one, "raw", where) for one in found]} | values
        identity = get(found, "sentid", int, where)
        return {"id": identity, "source": text(found, "raw", where), "group": key} | values
