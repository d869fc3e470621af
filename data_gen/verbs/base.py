"""What a verb is: what it is given, what it asks for, and the rows that come of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from data_gen.errors import InputError
from data_gen.registry import Registry
from data_gen.verbs.options import CaptionOptions, Options, TextOptions

__all__ = ["VERBS", "Record", "Row", "Shot", "Verb", "row_key", "text_of"]

Record = dict[str, str]
Row = dict[str, Any]


@dataclass(frozen=True)
class Shot:
    """An example in the prompt: what is given, and the records that answer it."""

    id: str
    given: str
    records: tuple[Record, ...]


class Verb(ABC):
    """One kind of training text.

    Subclass with the attributes below that differ, register in `VERBS`, done: the first paragraph of the docstring is the
    command's help, and `options` are its options.

    Args:
        options: of the run, for verbs that have options of their own; None where only the verb's words are wanted.
    Attributes:
        name: as on the command line; from `VERBS.register`.
        options_class: the options that the verb takes: `CaptionOptions` where keywords are given, `TextOptions` where
            texts are, or a subclass of one of them with more.
        instruction: the first lines of every prompt; `{number}` stands for the records wanted for one given text.
        given: how a prompt names what is given.
        fields: how a prompt names the parts of one answer.
        written: the keys of a row under which the model's own text lies; the filters see it.
        many: how many records are asked for one given text, unless the user says otherwise; 0: always one.
        least: a list of rows of which fewer than this pass the filters is rejected whole.
        grouped: whether the rows made from one given text get its id as their `group`.
        judged: what `--filter judge` asks of each row; it is shown what is given, and the row's record.
        style: the built-in style that is the default.
    """

    name: str = ""
    options_class: ClassVar[type[Options]] = TextOptions
    instruction: str
    given: str = "caption"
    fields: tuple[str, ...]
    written: tuple[str, ...] = ("target",)
    many: int = 0
    least: int = 1
    grouped: bool = False
    judged: str = "Does this make sense as one plausible photo, and does it fit what is given?"
    style: str = "plain"

    def __init__(self, options: Options | None = None) -> None:
        self.options = options

    @abstractmethod
    def rows(self, given: str, records: Sequence[Record]) -> list[list[Row]]:
        """Training rows, without id, from what is given and its records; rows accepted only together share a list."""

    @abstractmethod
    def record(self, row: Row) -> Record:
        """From a training row back to a record, or the part of one that lies in the row; see `text_of`."""

    def join(self, records: list[Record]) -> list[Record]:
        """Whole records from those of all rows with one given text."""
        return records

    def shot(self, table: Row) -> tuple[str, list[Record]]:
        """What is given, and its records, in a style's table of a shot."""
        records = table.get("records")
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise InputError("'records' is missing or wrong")
        records = [{field: text_of(record, field) for field in self.fields} for record in records]
        return text_of(table, "given"), records

    def key(self, row: Row) -> str:
        """What makes a row the same as another: by default `row_key`."""
        return row_key(row)

    @classmethod
    def is_keyword_driven(cls) -> bool:
        """Whether keywords, and not texts, are given."""
        return issubclass(cls.options_class, CaptionOptions)


VERBS: Registry[Verb] = Registry("verb")


def row_key(row: Row) -> str:
    """What a row starts from, and its question or else its target."""
    return f"{row.get('source')}\n{row.get('context') or row['target']}"


def text_of(row: Mapping[str, Any], key: str) -> str:
    """The text under a key, or the first where there are several.

    Raises:
        InputError: there is none.
    """
    value = row.get(key)
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise InputError(f"{key!r} is missing or wrong")
    return str(value)
