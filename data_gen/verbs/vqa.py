"""Questions with answers about what a caption describes."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.verbs.base import VERBS, Record, Row, Verb, text_of

__all__ = ["Vqa"]


@VERBS.register("vqa")
class Vqa(Verb):
    """Write questions with answers, from the captions of a file."""

    instruction = "Write {number} questions about the photo that the caption describes, each with a short answer."
    fields = ("question", "answer")
    written = ("context", "target")
    many = 3
    style = "vqa"

    def rows(self, given: str, records: Sequence[Record]) -> list[list[Row]]:
        return [[{"task": "vqa", "source": given, "context": r["question"], "target": r["answer"]}] for r in records]

    def record(self, row: Row) -> Record:
        return {"question": text_of(row, "context"), "answer": text_of(row, "target")}
