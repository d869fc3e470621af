"""What a task is: which text the encoder reads, which the language model reads, and what is to come out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from close.data.rows import Row
from close.errors import DataError
from close.registry import Registry

__all__ = ["TASKS", "Task", "check_views", "get_task", "source_labels", "targets_of"]

TASKS: Registry[type[Task]] = Registry("task")


class Task:
    """Captioning by default; a member overrides what differs.

    Attributes:
        name: in recipes and rows.
        instruction: put before the context where one model serves several tasks.
        max_new_tokens: longest output.
        labels: the closed set of answers, where there is one.
        metric: "caption", "vqa" or "entailment".
        views: images (and sources) of an item. More than one: an item has exactly so many, in their order, and a recipe that
            does not say otherwise keeps them apart (`several: set`). One: of several it makes one, unless the recipe says so.
    """

    name: ClassVar[str]
    instruction: ClassVar[str] = ""
    max_new_tokens: ClassVar[int] = 32
    labels: ClassVar[tuple[str, ...]] = ()
    metric: ClassVar[str] = "caption"
    views: ClassVar[int] = 1

    def source(self, row: Row) -> tuple[str, ...]:
        """Texts for the encoder; the raw vectors of several are averaged."""
        return row.source

    def context(self, row: Row) -> str:
        """Text after the prefix in the language model's input; empty for none."""
        return row.context

    @property
    def asks(self) -> bool:
        """Whether it asks something of each item, its context: no row of it is without."""
        try:
            self.context(Row(id="item"))
        except DataError:
            return True
        return False

    def prompt(self, context: str, instruct: bool) -> str:
        """The context as the language model reads it: behind the instruction where one model serves several tasks (OFA)."""
        if not instruct:
            return context
        return f"{self.instruction}: {context}" if context else self.instruction

    def targets(self, row: Row) -> tuple[str, ...]:
        """Texts to produce; each is trained on, lower-cased as in the paper."""
        return tuple(target.lower() for target in row.target or row.source)

    @property
    def teaches_texts(self) -> bool:
        """Whether its targets are a row's own texts, and not answers that it makes of them."""
        return type(self).targets is Task.targets

    def check_views(self, found: int, what: str) -> None:
        """Refuse an item of another number of images (or sources) than `views`, where that is more than one.

        Args:
            what: begins the message.
        Raises:
            DataError: too few or too many.
        """
        if self.views > 1 and found != self.views:
            raise DataError(
                f"{what}: task {self.name!r} takes {self.views} an item, together and in their order, and found {found}"
            )


def targets_of(row: Row, task: Task, *, lowercase: bool) -> Sequence[str]:
    """What is learnt of a row: the task's targets, or as the row has them."""
    return task.targets(row) if lowercase else row.target or row.source


def get_task(name: str) -> Task:
    """A task by name.

    Raises:
        UnknownNameError: no such task; the nearest is told.
    """
    return TASKS[name]()


def check_views(task: Task, rows: Iterable[Row], where: str = "") -> None:
    """Look at rows of which each must have so many sources and images, before these are embedded.

    Raises:
        DataError: one has another number, or lacks what the task needs; `where` is put before.
    """
    for row in rows if task.views > 1 else ():
        try:
            task.context(row)
        except DataError as error:
            raise DataError(f"{where}{error}") from None


def source_labels(row: Row, task: str | None = None) -> list[str]:
    """What each source of a row shares with the other texts of its image: the row's `group`.

    Of a task of several views, the row's own or the one that it is read for, the sources are of an image each, and share it with
    those of the same view in the other rows of the group.

    Args:
        task: that the row is read for; without it, what the row itself says.
    """
    label = row.group or f"\0{row.id}"
    apart = any(TASKS[name].views > 1 for name in (row.task, task) if name is not None and name in TASKS)
    return [f"{label}\0{view}" if apart else label for view in range(len(row.source))]


def need(value: str | tuple[str, ...] | None, key: str, row: Row, task: str) -> None:
    """Refuse a row that lacks what its task needs.

    Raises:
        DataError: names row and key.
    """
    if not value:
        raise DataError(f"row {row.id!r}: task {task!r} needs '{key}'")
