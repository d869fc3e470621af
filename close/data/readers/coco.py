"""COCO captions, VizWiz's, which flag some, and NoCaps, which has the same layout with a domain for each image.

`{"images": [{"id", "file_name", …}], "annotations": [{"id", "image_id", "caption"}]}`; NoCaps adds `"domain"` to images.
Chen et al. (2015), "Microsoft COCO Captions"; Agrawal et al. (2019), "nocaps: novel object captioning at scale".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from close.data.columns import check_flags
from close.data.readers.base import READERS, Reader, Skip, Values, get, text
from close.data.readers.json_stream import json_items, json_value
from close.errors import DataError, shown

__all__ = ["Coco", "NoCaps", "captions_by_image"]


@READERS.register("coco")
class Coco(Reader):
    """A row for each caption, in the order of the annotations, or for each image, in the order of the images.

    Captions stream; the images' own entries are held in memory (per image: the captions). Captions that VizWiz flags
    (`is_rejected`, `is_precanned`) are left out and counted, as its own tools do.
    """

    reads = "COCO's captions file: captions_train2014.json; VizWiz' captions"
    uses = ("images", "per")

    def records(self) -> Iterator[tuple[str, Any]]:
        encoding = self.options.encoding
        if self.per == "image":
            captions = captions_by_image(self.path, encoding)
            for where, image in json_items(self.path, "images", encoding=encoding):
                key = get(image, "id", (int, str), where)
                if captions is not None and key not in captions:
                    yield where, DataError(f"{where}: no annotation is about image {shown(key)}")
                else:
                    yield where, (image, captions and captions[key])
            return
        images = {}
        for where, image in json_items(self.path, "images", encoding=encoding):
            images[get(image, "id", (int, str), where)] = image
        for where, annotation in json_items(self.path, "annotations", encoding=encoding):
            yield where, (images.get(get(annotation, "image_id", (int, str), where)), annotation)

    def row(self, record: Any, where: str) -> Values:
        image, captions = record
        if self.per != "image":
            check_flags(captions)
        if image is None:
            raise DataError(f"{where}: 'image_id' is {shown(captions['image_id'])}, but no image has that id")
        values = {"image": self.image(get(image, "file_name", str, where), where), "meta": self.meta(image)}
        if self.per == "image":
            if captions == []:
                raise Skip("every caption is flagged")
            return {"id": image["id"], "references": captions} | values
        key = get(captions, "id", (int, str), where)
        return {"id": key, "source": text(captions, "caption", where), "group": image["id"]} | values

    def meta(self, image: Values) -> Values:
        """What to keep of the image's own entry."""
        return {}


@READERS.register("nocaps")
class NoCaps(Coco):
    """A row for each image, with its domain in `meta`; the test set has no captions."""

    reads = "nocaps' file of images and captions, which has COCO's layout"
    default_per = "image"

    def meta(self, image: Values) -> Values:
        """The domain: in-domain, near-domain or out-domain."""
        return {"domain": image["domain"]} if "domain" in image else {}


def captions_by_image(path: Path, encoding: str = "utf-8") -> dict[int | str, list[str]] | None:
    """Image id to its captions, of a COCO captions file; None where the file has no annotations at all (test sets).

    Captions that the data set flags are left out: an image may have none.
    """
    if json_value(path, "annotations", encoding=encoding) is None:
        return None
    captions: dict[int | str, list[str]] = {}
    for where, annotation in json_items(path, "annotations", encoding=encoding):
        key = get(annotation, "image_id", (int, str), where)
        of_image = captions.setdefault(key, [])
        with suppress(Skip):
            check_flags(annotation)
            of_image.append(get(annotation, "caption", str, where).strip())
    return captions
