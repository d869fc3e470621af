"""Hypotheses for a premise, one of each label, as visual entailment has them."""

from __future__ import annotations

from collections.abc import Sequence

from data_gen.verbs.base import VERBS, Record, Row, Verb, text_of

__all__ = ["Entailment"]


@VERBS.register("entailment")
class Entailment(Verb):
    """Write hypotheses for premises: entailment, neutral and contradiction, equally many."""

    instruction = (
        "Write three sentences about the photo that the premise describes: one that must be true (entailment), one "
        "that may be true (neutral) and one that can't be true (contradiction)."
    )
    given = "premise"
    fields = ("entailment", "neutral", "contradiction")
    written = ("context",)
    least = 3
    judged = (
        "Of the photo that the premise describes, an entailment must be true, a neutral sentence may be true or false, and a "
        "contradiction can't be true. Is this sentence what it is called here?"
    )
    style = "entailment"

    def rows(self, given: str, records: Sequence[Record]) -> list[list[Row]]:
        common = {"task": "entailment", "source": given}
        return [
            [{**common, "context": text, "target": label, "label": label} for label, text in r.items()] for r in records
        ]

    def record(self, row: Row) -> Record:
        return {text_of(row, "target"): text_of(row, "context")}

    def join(self, records: list[Record]) -> list[Record]:
        return [{label: text for record in records for label, text in record.items()}]
