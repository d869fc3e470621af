"""The closed set of answers that a VQA model may choose from."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from close.data.shards import open_rows
from close.errors import DataError
from close.tasks.base import Task, targets_of

__all__ = ["answer_vocabulary"]


def answer_vocabulary(
    path: str | Path,
    task: Task,
    top: int | None = None,
    columns: Mapping[str, str | int] | None = None,
    *,
    lowercase: bool = True,
) -> list[str]:
    """Answers from a file, each once.

    Args:
        path: `.txt`, one answer a line, kept in their order; or rows, whose training targets are taken, commonest first.
        top: only the first so many. columns: of a table, as `open_rows` takes them.
        lowercase: false takes them as they are written.
    Raises:
        MissingError, DataError: no such file; a row that lacks what the task needs.
    """
    rows = open_rows(path, columns)
    if rows.kind == "txt":
        texts = (row.source[0].lower() if lowercase else row.source[0] for row in rows)
        found = list(dict.fromkeys(" ".join(text.split()) for text in texts))
    else:
        counts: Counter[str] = Counter()
        for row in rows:
            try:
                counts.update(" ".join(target.split()) for target in targets_of(row, task, lowercase=lowercase))
            except DataError as error:
                raise DataError(f"{rows.path}: {error}") from None
        found = sorted(counts, key=lambda answer: (-counts[answer], answer))
    return found[:top]
