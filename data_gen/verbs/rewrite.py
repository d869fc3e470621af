"""Captions in another style, for stylised captioning: the plain caption is the source, its rewriting the target."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.verbs.base import VERBS, Record, Row, Verb, text_of

__all__ = ["Rewrite"]


@VERBS.register("rewrite")
class Rewrite(Verb):
    """Rewrite the captions of a file into a style."""

    instruction = "Rewrite the caption of a photo. Keep to what it shows."
    fields = ("rewritten",)

    def rows(self, given: str, records: Sequence[Record]) -> list[list[Row]]:
        return [[{"task": "caption", "source": given, "target": r["rewritten"]}] for r in records]

    def record(self, row: Row) -> Record:
        return {"rewritten": text_of(row, "target")}

    def shot(self, table: Row) -> tuple[str, list[Record]]:
        return text_of(table, "plain"), [{"rewritten": text_of(table, "text")}]
