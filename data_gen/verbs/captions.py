"""Captions for keywords: CLOSE's way to make training text."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.errors import InputError
from data_gen.verbs.base import VERBS, Record, Row, Verb, text_of
from data_gen.verbs.options import CaptionOptions

__all__ = ["Captions"]


@VERBS.register("captions")
class Captions(Verb):
    """Write captions for keywords, after the examples of a caption file."""

    options_class = CaptionOptions
    instruction = "Write a caption of a photo that uses the keywords."
    given = "keywords"
    fields = ("caption",)

    def rows(self, given: str, records: Sequence[Record]) -> list[list[Row]]:
        return [[{"task": "caption", "source": r["caption"], "target": r["caption"]}] for r in records]

    def record(self, row: Row) -> Record:
        return {"caption": text_of(row, "target")}

    def shot(self, table: Row) -> tuple[str, list[Record]]:
        keywords = table.get("keywords")
        if not isinstance(keywords, list):
            raise InputError("'keywords' is missing or wrong")
        return ", ".join(map(str, keywords)), [{"caption": text_of(table, "text")}]
