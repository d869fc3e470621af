"""Boxes of pictures with what is in them: COCO's instances and a detector's results, Visual Genome's regions with a phrase each.

`{"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "category_id", "bbox": [x, y, width, height]}],
"categories": […]}`; `[{"image_id", "category_id", "bbox", "score"}]`; `[{"id", "regions": [{"region_id", "x", "y", "width",
"height", "phrase"}]}]`. Lin et al. (2014), "Microsoft COCO: Common Objects in Context"; Krishna et al. (2017), "Visual Genome".
A box is a part of its picture's name (`close.io.parts`).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from close.data.readers.base import READERS, Reader, ReadOptions, Values, get, read_rows, text
from close.data.readers.json_stream import json_items, json_value
from close.errors import DataError, shown
from close.io.files import check_file
from close.io.media import FILMS, picture_suffixes
from close.io.parts import box_name

__all__ = ["CocoBoxes", "CocoResults", "VisualGenome", "named_boxes"]


@READERS.register("coco-boxes")
class CocoBoxes(Reader):
    """A row for each box: source its category's name (or the annotation's own `caption`), image the box. Crowds are boxes too.

    Boxes stream; the images' and categories' entries are held in memory.
    """

    reads = "COCO's boxes: instances_val2017.json, and other annotations with bbox"

    def records(self) -> Iterator[tuple[str, Any]]:
        encoding = self.options.encoding
        self.names, self.kinds = dict[Any, Any](), dict[Any, str]()
        for where, image in json_items(self.path, "images", encoding=encoding):
            self.names[get(image, "id", (int, str), where)] = get(image, "file_name", str, where)
        if json_value(self.path, "categories", encoding=encoding) is not None:
            for where, kind in json_items(self.path, "categories", encoding=encoding):
                self.kinds[get(kind, "id", (int, str), where)] = text(kind, "name", where)
        yield from json_items(self.path, "annotations", encoding=encoding)

    def row(self, record: Any, where: str) -> Values:
        image, box = get(record, "image_id", (int, str), where), get(record, "bbox", list, where)
        if image not in self.names:
            raise DataError(f"{where}: 'image_id' is {shown(image)}, but no image has that id")
        values = {"id": get(record, "id", (int, str), where), "meta": {"image_id": image, "box": box}}
        if "caption" in record:
            values["source"] = text(record, "caption", where)
        elif record.get("category_id") is not None:
            key = get(record, "category_id", (int, str), where)
            if key not in self.kinds:
                raise DataError(f"{where}: 'category_id' is {shown(key)}, but no category has that id")
            values["source"] = values["label"] = self.kinds[key]
        return values | {"image": box_name(self.image(self.names[image], where), box, f"{where}: ")}


@READERS.register("coco-results")
class CocoResults(Reader):
    """A row for each box, its image the box; what is in it is a number, which only the instances' file names.

    Such a file names no pictures: that of `image_id` 139 is the one whose name ends in this number (`000000000139.jpg`); a text
    is its name.
    """

    reads = "COCO's results, as detectors write them: a list of image_id, bbox, category_id, score"

    def records(self) -> Iterator[tuple[str, Any]]:
        self.names, self.numbers = dict[str, list[str]](), dict[str, list[str]]()
        folder, endings = Path(self.pictures), picture_suffixes()
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            if file.suffix.lower() in endings:
                for key in {file.name, file.stem}:
                    self.names.setdefault(key, []).append(file.name)
                if number := re.search(r"0*(\d+)$", file.stem):
                    self.numbers.setdefault(number[1], []).append(file.name)
        for place, (where, found) in enumerate(json_items(self.path, encoding=self.options.encoding), 1):
            yield where, (place, found)

    def row(self, record: Any, where: str) -> Values:
        number, record = record
        image, box = get(record, "image_id", (int, str), where), get(record, "bbox", list, where)
        named = (self.names.get(image) if isinstance(image, str) else None) or self.numbers.get(str(image), [])
        if len(named) != 1:
            what = f"{named[0]} and {named[1]} do" if named else "none does"
            raise DataError(
                f"{where}: 'image_id' is {shown(image)}: expected one picture in {self.pictures} of this number or name; {what}"
            )
        told = {key: record[key] for key in ("category_id", "score") if key in record}
        values = {"id": str(number), "meta": {"image_id": image, "box": box, **told}}
        return values | {"image": box_name(self.image(named[0], where), box, f"{where}: ")}


@READERS.register("visual-genome")
class VisualGenome(Reader):
    """A row for each region: source its phrase, image the box; pictures are called after their number (`107899.jpg`)."""

    reads = "Visual Genome's region_descriptions.json"

    def records(self) -> Iterator[tuple[str, Any]]:
        for where, image in json_items(self.path, encoding=self.options.encoding):
            try:
                key, regions = get(image, "id", (int, str), where), get(image, "regions", list, where)
            except DataError as error:
                yield where, error
                continue
            for place, region in enumerate(regions, 1):
                yield f"{where}, region {place}", (key, region)

    def row(self, record: Any, where: str) -> Values:
        image, region = record
        box = [get(region, key, (int, float), where) for key in ("x", "y", "width", "height")]
        return {
            "id": get(region, "region_id", (int, str), where),
            "source": text(region, "phrase", where),
            "image": box_name(self.image(f"{image}.jpg", where), box, f"{where}: "),
            "meta": {"image_id": image, "box": box},
        }


def named_boxes(path: Path, pictures: Path | None) -> list[str]:
    """The boxes of a file, each as the name of a part of its picture.

    Args:
        path: COCO's or Visual Genome's JSON, a detector's results in COCO's form, rows (`.jsonl`) whose images are boxes, or a
            JSON list of boxes of one picture.
        pictures: the folder that the file's names are relative to, without it the file's own; or that one picture.
    Raises:
        MissingError: no such file, or a picture is not there. DataError: what is wrong at which record.
    """
    check_file(path)
    with path.open("rb") as file:
        start = file.read(1000).removeprefix(codecs.BOM_UTF8).lstrip()
    bare = re.match(rb"\[\s*[\[\d]", start) is not None
    if pictures is not None and pictures.is_file():
        if pictures.suffix.lower() in FILMS:
            raise DataError(f"{pictures}: boxes are of pictures, and it is a film")
        if not bare and re.match(rb"\[\s*\]", start) is None:
            raise DataError(f"{path} is of many pictures: give the folder that they are in, not {pictures}")
        if not (boxes := [box_name(pictures, box, f"{where}: ") for where, box in json_items(path)]):
            raise DataError(f"{path}: expected a JSON list of boxes [left, top, width, height], and it is empty")
        return boxes
    if bare:
        raise DataError(f"{path}: a list of boxes is of one picture: give that picture, not a folder")
    options = ReadOptions(images=pictures or path.parent)
    found = []
    for row in read_rows(_kind(path, start), path, options=options):
        image = row.get("image")
        if not isinstance(image, str):
            raise DataError(
                f"{path}: row {row['id']!r} has {'several images' if image else 'no image'}, expected one box"
            )
        found.append(image)
    return found


def _kind(path: Path, start: bytes) -> str:
    """The format of a file of boxes of many pictures, from its name and how it begins."""
    if path.suffix == ".jsonl":
        return "jsonl"
    if not start.startswith(b"["):
        return "coco-boxes"
    return "coco-results" if re.match(rb'\[\s*\{[^{]*"(bbox|image_id)"', start) else "visual-genome"
