"""SNLI and SNLI-VE: JSON lines with `pairID`, `sentence1`, `sentence2`, `gold_label`; SNLI-VE adds `Flickr30K_ID`.

Bowman et al. (2015), "A large annotated corpus for learning natural language inference"; Xie et al. (2019), "Visual
Entailment: A Novel Task for Fine-Grained Image Understanding".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from close.data.readers.base import READERS, Reader, Skip, Values, get, text
from close.data.readers.lines import json_records
from close.errors import DataError, shown

__all__ = ["Snli", "SnliVe"]

_LABELS = ("entailment", "neutral", "contradiction")


@READERS.register("snli")
class Snli(Reader):
    """Source the premise, context the hypothesis; pairs without a gold label ("-") are skipped and counted. Streams."""

    reads = "SNLI's JSON lines: snli_1.0_train.jsonl"
    uses: ClassVar[tuple[str, ...]] = ()

    def records(self) -> Iterator[tuple[str, Any]]:
        yield from json_records(self.path, self.options.encoding)

    def row(self, record: Any, where: str) -> Values:
        label = get(record, "gold_label", str, where)
        if label == "-":
            raise Skip("label '-'")
        if label not in _LABELS:
            raise DataError(f"{where}: 'gold_label' is {shown(label)}, expected {', '.join(_LABELS)} or '-'")
        return {
            "id": get(record, "pairID", (str, int), where),
            "source": text(record, "sentence1", where),
            "context": text(record, "sentence2", where),
            "label": label,
            "target": label,
        }


@READERS.register("snli-ve")
class SnliVe(Snli):
    """SNLI's pairs with the picture whose caption the premise is."""

    reads = "SNLI-VE's JSON lines: snli_ve_train.jsonl"
    uses = ("images",)

    def row(self, record: Any, where: str) -> Values:
        values = super().row(record, where)
        picture = str(get(record, "Flickr30K_ID", (str, int), where)).removesuffix(".jpg")
        return values | {"image": self.image(f"{picture}.jpg", where), "group": picture}
