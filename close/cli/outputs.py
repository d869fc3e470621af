"""What is told of outputs: a line each, a file, a page, and what is to be said when all are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from close.errors import PartialError, firsts, written
from close.io.files import nan_as_null
from close.io.terminal import show

if TYPE_CHECKING:
    from close.io.results import ResultFile
    from close.runs.pipeline import CloseCaptioner, Output

__all__ = ["Told", "print_lines", "unread", "write_lines", "write_page"]


class Told:
    """What is to be told when all is said: errors, empty texts, and items with few candidates.

    Args:
        kept: outputs that are kept for a page.
    """

    def __init__(self, kept: int = 0) -> None:
        self.errors, self.counts, self.left_out, self.empty = list[str](), list[int](), 0, 0
        self.rows, self.kept = list[Mapping[str, Any]](), kept

    def note(self, row: Mapping[str, Any]) -> None:
        """One more output, as it is written."""
        if len(self.rows) < self.kept:
            self.rows.append(row)
        if row.get("error"):
            self.errors.append(row["error"])
        else:
            self.counts.append(len(row.get("candidates", ())))
            self.left_out += row.get("left_out", False)
            self.empty += not (row["text"] or row.get("left_out"))

    def finish(self, items: int, n: int | None, sure: float | None, out: Path | None) -> None:
        """Tell it.

        Raises:
            PartialError: there were errors.
        """
        if out is not None:
            show(f"{out}: {items} rows")
        if self.empty:
            show(f"note: {self.empty} of {len(self.counts)} texts are empty", err=True)
        if few := sum(count < (n or 0) for count in self.counts):
            show(f"note: {few} of {len(self.counts)} items have fewer than {n} distinct candidates", err=True)
        if self.left_out:
            where = "with --json they are listed, marked" if out is None else f"{out} lists them, marked"
            show(
                f"note: {self.left_out} of {len(self.counts)} items are less sure than {sure} and left out; {where}",
                err=True,
            )
        if self.errors:
            raise unread(self.errors, items)


def unread(errors: Sequence[object], items: int) -> PartialError:
    """The error of items that could not be read: how many of all, and why the first of them could not."""
    return PartialError(f"{len(errors)} of {items} items could not be read: {firsts(list(map(str, errors)))}")


def write_lines(results: ResultFile, say: Callable[[int], Iterable[Output]], told: Told, count: int, what: str) -> None:
    """What is said of the items that the file lacks goes into it.

    Args:
        count: of all items. what: they are.
    """
    from close.io.progress import progress

    with progress("captioning", what) as update:
        update(results.done, count)
        for done, output in enumerate(say(results.done), results.done + 1):
            row = nan_as_null(output.to_dict())
            results.write(row)
            told.note(row)
            update(done, count)


def write_page(
    file: Path | None, model: CloseCaptioner, items: Sequence[Any], rows: Sequence[Mapping[str, Any]]
) -> None:
    """A page of the first items with what is said of them, where a file for it is given, and something was read."""
    if file is None:
        return
    if rows and all(row.get("error") for row in rows):  # a slip in a path takes no page's place
        show(f"{file}: {'left as it is' if file.exists() else 'not written'}, as no item could be read", err=True)
        return
    from close.evaluation.page import captions_page
    from close.io.files import write_text
    from close.runs.items import item_files

    are_pictures = model.encoder.items == "images"
    shown = [(item_files(item) if are_pictures else (), row) for item, row in zip(items, rows, strict=False)]
    of = f"{len(rows):,}" if len(rows) == len(items) else f"the first {len(rows):,} of {len(items):,}"
    outputs = [(list(map(str, files)), row) for files, row in shown]
    write_text(file, captions_page(outputs, f"What {Path(model.name).name} says", f"{of} {model.encoder.items}"))
    show(f"{file}: {of} {model.encoder.items} with what is said of them", err=True)


def print_lines(outputs: Iterable[Output], told: Told, as_json: bool, n: int | None) -> None:
    """A line an output, or with `n` a candidate."""
    from close.runs.outputs import Candidate

    for output in outputs:
        row = nan_as_null(output.to_dict())
        told.note(row)
        if as_json:
            show(json.dumps(row, ensure_ascii=False))
        elif not output.error and not output.left_out:
            sure = [] if output.confidence is None else [f"{output.confidence:.3f}"]
            said = output.candidates or [Candidate(output.text, output.score)]
            for text, score, cosine in said if n else said[:1]:
                numbers = [f"{score:.3f}", *([] if cosine is None else [f"{cosine:.3f}"]), *sure]
                show("\t".join([written(output.item), *numbers, written(text)]))
                sure = ["-"] * len(sure)  # it is of what is said
