"""What a task is: which text the encoder reads, which the language model reads, and what is to come out."""

from __future__ import annotations

from typing import ClassVar

from close.data.rows import Row
from close.errors import DataError
from close.registry import Registry

__all__ = ["TASKS", "Task", "get_task"]

TASKS: Registry[type[Task]] = Registry("task")


class Task:
    """Captioning by default; a member overrides what differs.

    Attributes:
        name: in recipes and rows.
        instruction: put before the context where one model serves several tasks.
        max_new_tokens: longest output.
        labels: the closed set of answers, where there is one.
        metric: "caption", "vqa" or "entailment".
    """

    name: ClassVar[str]
    instruction: ClassVar[str] = ""
    max_new_tokens: ClassVar[int] = 32
    labels: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str] = "caption"

    def source(self, row: Row) -> tuple[str, ...]:
        """Texts for the encoder; the raw vectors of several are averaged."""
        return row.source

    def context(self, row: Row) -> str:
        """Text after the prefix in the language model's input; empty for none."""
        return row.context

    def prompt(self, context: str, instruct: bool) -> str:
        """The context as the language model reads it: behind the instruction where one model serves several tasks (OFA)."""
        if not instruct:
            return context
        return f"{self.instruction}: {context}" if context else self.instruction

    def targets(self, row: Row) -> tuple[str, ...]:
        """Texts to produce; each is trained on, lower-cased as in the paper."""
        return tuple(target.lower() for target in row.target or row.source)


def get_task(name: str) -> Task:
    """A task by name.

    Raises:
        UnknownNameError: no such task; the nearest is told.
    """
    return TASKS[name]()


def need(value: str | tuple[str, ...] | None, key: str, row: Row, task: str) -> None:
    """Refuse a row that lacks what its task needs.

    Raises:
        DataError: names row and key.
    """
    if not value:
        raise DataError(f"row {row.id!r}: task {task!r} needs '{key}'")
