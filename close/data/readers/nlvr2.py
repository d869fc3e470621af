"""NLVR2: JSON lines with `identifier`, `sentence`, `label`; its pictures are named after the identifier.

Suhr et al. (2019), "A Corpus for Reasoning About Natural Language Grounded in Photographs"; github.com/lil-lab/nlvr.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from close.data.readers.base import READERS, Reader, Values, get, text
from close.data.readers.lines import json_lines, json_records
from close.errors import DataError, shown

__all__ = ["Nlvr2"]

_LABELS = ("true", "false")


@READERS.register("nlvr2")
class Nlvr2(Reader):
    """Images the left and the right picture, context the statement; with captions of the pictures, these are the sources.

    The data set has no captions: `captions` is JSON lines that some captioner wrote (`close caption --out`), each with the
    picture's name (`image` or `item`) and its text (`source`, `caption` or `text`). A statement's pairs share `meta.statement`.
    Streams.
    """

    reads = "NLVR2's JSON lines: train.json, dev.json, test1.json"
    uses: ClassVar[tuple[str, ...]] = ("images", "captions")

    def records(self) -> Iterator[tuple[str, Any]]:
        self.captions = _captions(self.options.captions, self.options.encoding) if self.options.captions else None
        yield from json_records(self.path, self.options.encoding)

    def row(self, record: Any, where: str) -> Values:
        identifier, label = text(record, "identifier", where), get(record, "label", str, where)
        split, _, rest = identifier.partition("-")
        parts = rest.split("-")
        if len(parts) != 3 or not all(parts):
            raise DataError(f"{where}: 'identifier' is {shown(identifier)}, expected split-set-pair-sentence")
        if label.lower() not in _LABELS:
            raise DataError(f"{where}: 'label' is {shown(label)}, expected True or False")
        names = [f"{split}-{parts[0]}-{parts[1]}-img{side}.png" for side in (0, 1)]
        values = {
            "id": identifier,
            "context": text(record, "sentence", where),
            "label": label.lower(),
            "target": label.lower(),
            "image": [self.image(self._below(record, name), where) for name in names],
            "meta": {"statement": f"{split}-{parts[0]}-{parts[2]}"},
        }
        return values | ({} if self.captions is None else {"source": [self._caption(name, where) for name in names]})

    def _below(self, record: Any, name: str) -> str:
        """The training pictures lie in numbered folders, which `directory` names."""
        inside = os.path.join(str(record.get("directory", "")), name)
        return inside if self.options.images and os.path.isfile(os.path.join(self.pictures, inside)) else name

    def _caption(self, name: str, where: str) -> str:
        if self.captions is None or name not in self.captions:
            raise DataError(f"{where}: {self.options.captions} has no caption of {name}")
        return self.captions[name]


def _captions(path: Path, encoding: str) -> dict[str, str]:
    """Name of a picture, without its folders, to its first caption; none where its captioner says an error, or nothing."""
    found: dict[str, str] = {}
    for where, record in json_lines(path, encoding):
        keys = record if isinstance(record, dict) else {}
        of, said = (next((key for key in names if key in keys), names[0]) for names in _NAMES)
        name = os.path.basename(text(record, of, where))
        if not keys.get("error") and keys.get(said) != "":
            found.setdefault(name, text(record, said, where))
    return found


_NAMES = (("image", "item"), ("source", "caption", "text"))
