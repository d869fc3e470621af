"""The verbs as data: what each is given, what it asks for, and the rows that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["VERBS", "Record", "Row", "Verb"]

Record = dict[str, str]
Row = dict[str, Any]


@dataclass(frozen=True)
class Verb:
    """One kind of training text.

    Attributes:
        name: as on the command line.
        instruction: the first lines of every prompt; `{number}` stands for the records wanted for one given text.
        given: how a prompt names what is given.
        fields: how a prompt names the parts of one answer.
        rows: from what is given and its records to training rows without id; rows that are accepted only together
            come in one list.
        record: from a training row back to a record of a shot.
        many: how many records are asked for one given text, unless the user says otherwise; 0: always one.
        least: a list of rows of which fewer than this pass the filters is rejected whole.
        style: the built-in style that is the default.
    """

    name: str
    instruction: str
    given: str
    fields: tuple[str, ...]
    rows: Callable[[str, Sequence[Record]], list[list[Row]]]
    record: Callable[[Row], Record]
    many: int = 0
    least: int = 1
    style: str = "plain"

    @property
    def keyword_driven(self) -> bool:
        """Whether keywords, and not texts, are given."""
        return self.given == "keywords"


def _caption(given: str, records: Sequence[Record]) -> list[list[Row]]:
    return [[{"task": "caption", "source": r["caption"], "target": r["caption"]}] for r in records]


def _rewrite(given: str, records: Sequence[Record]) -> list[list[Row]]:
    return [[{"task": "caption", "source": given, "target": r["rewritten"]}] for r in records]


def _vqa(given: str, records: Sequence[Record]) -> list[list[Row]]:
    return [[{"task": "vqa", "source": given, "context": r["question"], "target": r["answer"]}] for r in records]


def _entailment(given: str, records: Sequence[Record]) -> list[list[Row]]:
    return [
        [
            {"task": "entailment", "source": given, "context": text, "target": label, "label": label}
            for label, text in r.items()
        ]
        for r in records
    ]


def _paraphrase(given: str, records: Sequence[Record]) -> list[list[Row]]:
    return [[{"task": "caption", "source": r["paraphrase"], "target": r["paraphrase"]} for r in records]]


def _first(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


def _reader(**fields: str) -> Callable[[Mapping[str, Any]], Record]:
    return lambda row: {field: _first(row[key]) for field, key in fields.items()}


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "captions",
            "Write a caption of a photo that uses the keywords.",
            "keywords",
            ("caption",),
            _caption,
            _reader(caption="target"),
        ),
        Verb(
            "rewrite",
            "Rewrite the caption of a photo. Keep to what it shows.",
            "caption",
            ("rewritten",),
            _rewrite,
            _reader(rewritten="target"),
        ),
        Verb(
            "vqa",
            "Write {number} questions about the photo that the caption describes, each with a short answer.",
            "caption",
            ("question", "answer"),
            _vqa,
            _reader(question="context", answer="target"),
            many=3,
            style="vqa",
        ),
        Verb(
            "entailment",
            "Write three sentences about the photo that the premise describes: one that must be true (entailment), one "
            "that may be true (neutral) and one that can't be true (contradiction).",
            "premise",
            ("entailment", "neutral", "contradiction"),
            _entailment,
            lambda row: {_first(row["target"]): row["context"]},
            least=3,
            style="entailment",
        ),
        Verb(
            "paraphrase",
            "Write {number} different captions of the photo that the caption describes.",
            "caption",
            ("paraphrase",),
            _paraphrase,
            _reader(paraphrase="target"),
            many=4,
            least=2,
            style="paraphrase",
        ),
    )
}
