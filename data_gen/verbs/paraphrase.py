"""Groups of captions of one photo, as several people write them: in other words, and each another part."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.verbs.base import VERBS, Record, Row, Verb, text_of

__all__ = ["Paraphrase"]


@VERBS.register("paraphrase")
class Paraphrase(Verb):
    """Write groups of captions that each say a part of what a caption of a file says."""

    instruction = "Write {number} different captions of the photo that the caption describes."
    fields = ("paraphrase",)
    many = 4
    least = 2
    grouped = True
    style = "paraphrase"

    def rows(self, given: str, records: Sequence[Record]) -> list[list[Row]]:
        return [[{"task": "caption", "source": r["paraphrase"], "target": r["paraphrase"]} for r in records]]

    def record(self, row: Row) -> Record:
        return {"paraphrase": text_of(row, "target")}
