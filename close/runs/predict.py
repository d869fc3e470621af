"""What a run says of the rows of a data file: which rows, behind which vectors, from which answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.data.rows import Modality, Row, RowFile
from close.data.shards import open_rows
from close.encoders import ContrastiveEncoder
from close.encoders.base import windows
from close.errors import DataError, MismatchError, RecipeError, counted
from close.evaluation.images import about_images, one_row_an_image
from close.evaluation.match import Missing
from close.io.progress import progress
from close.model.configuration import Several
from close.model.sets import Sets
from close.runs.candidates import labels_sum
from close.runs.folder import RECIPE_FILE, open_run
from close.runs.items import draw_seeds
from close.runs.pipeline import Answer, CloseCaptioner, Decode
from close.runs.recipe import checked
from close.runs.recipe_file import read_values
from close.runs.row_vectors import embeddings_of, image_names, image_vectors, mean_vectors
from close.tasks import Task, answer_vocabulary, check_views
from close.vectors.build import images_of
from close.vectors.cache import cached_images, cached_table
from close.vectors.table import EmbeddingTable

__all__ = ["Decoding", "Told", "by_length", "decoding_of", "doing", "named_task", "predict", "tell", "training_file"]

TOP_ANSWERS = 3000
_GO_ON = "--missing skip leaves such rows out, zero counts them as nothing said"


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are found; see `CloseCaptioner.answer`.

    Attributes:
        how: tree, score or free; without it, tree where the task has a closed set of answers, else free.
        normalise: with "score", by the labels' lengths.
        labels: the closed set; without it, the task's own.
    """

    how: Decode | None = None
    normalise: bool = False
    labels: tuple[str, ...] | None = None

    def way(self, task: Task) -> Decode:
        """How they are found."""
        return self.how or ("tree" if task.labels or self.labels else "free")

    def describe(self, task: Task, answers: Any) -> dict[str, Any]:
        """For the record of an evaluation; `answers` as it was given."""
        given = str(answers) if isinstance(answers, (str, Path)) else "a list"
        return {
            "how": self.way(task),
            "normalise": self.normalise,
            "answers": None if answers is None else given,
            "labels": len(self.labels or task.labels),
            **({} if self.labels is None else {"labels_sha256": labels_sum(self.labels)}),
        }


@dataclass(frozen=True)
class Told:
    """What was said: of `seen`, the examples that have a vector."""

    examples: Sequence[Row]
    seen: Sequence[Row]
    answers: Sequence[Answer]
    table: EmbeddingTable
    notes: dict[str, str]

    @property
    def unreadable(self) -> list[dict[str, str]]:
        """`id` and `reason` of images that have no vector: that could not be read, or are not in a table that was given."""
        reasons = {failure["id"]: failure["reason"] for failure in self.table.failures}
        there, found = {row.id for row in self.seen}, list[dict[str, str]]()
        for row in self.examples:
            names = image_names(row) if row.id not in there else []
            for name in [name for name in names if name in reasons] or names:
                found.append({"id": name, "reason": reasons.get(name, f"no vector in {self.table.path}")})
        return found

    @property
    def said(self) -> dict[str, str]:
        """Text by id."""
        return {row.id: answer.text for row, answer in zip(self.seen, self.answers, strict=True)}

    @property
    def image_vectors(self) -> Callable[[Sequence[str]], NDArray[np.float32]] | None:
        """Ids of examples to the (N, D) unit vectors of their images, of several the mean; None where texts were fed."""
        return mean_vectors(self.seen, self.table) if self.table.modality == "image" else None


def tell(
    captioner: CloseCaptioner,
    rows: RowFile,
    modality: Modality,
    limit: int | None,
    missing: Missing | None,
    batch_size: int,
    decoding: Decoding,
    generation: Mapping[str, Any],
    given: EmbeddingTable | None = None,
) -> Told:
    """Find the examples of a file and what the model says of them.

    Args:
        missing: of an image that can't be read: "error" names what would go on, None has nothing that does.
        generation: of the run's settings, other ones; and `seed`: what is drawn of a row hangs on it (0 without it), the row's id
            and its context alone.
        given: the rows' vectors, in place of what the encoder makes of them.
    """
    if modality not in ("image", "text"):
        raise RecipeError(f"modality is 'image' or 'text', not {modality!r}")
    task, batch_size = captioner.task, counted(batch_size, "batch_size")
    merged = one_row_an_image(rows, task.metric) if modality == "image" else rows
    examples = merged[: limit or len(merged)]
    check_views(task, examples, f"{rows.path}: ")
    table = _table(captioner.encoder, rows, modality, missing) if given is None else given
    seen = _with_vector(rows, examples, table, missing, "image" if given is None else f"vector in {given.path}")
    several, other = captioner.model.config.several, captioner.memory.search if given is None else None
    vectors = _vectors_of(task, rows, seen, table, several)
    search = _vectors_of(task, rows, seen, _table(other(), rows, modality, missing), "mean") if other else None
    answers = predict(captioner, seen, vectors, modality, batch_size, decoding, search, **generation)
    notes = {"rows": about_images(len(rows), len(merged))} if len(merged) < len(rows) else {}
    return Told(examples, seen, answers, table, notes)


def predict(
    captioner: CloseCaptioner,
    rows: Sequence[Row],
    vectors: Callable[[Sequence[int]], Sets],
    modality: Modality,
    batch_size: int = 64,
    decoding: Decoding = Decoding(),
    search: Callable[[Sequence[int]], Sets] | None = None,
    seed: int | None = None,
    **generation: Any,
) -> list[Answer]:
    """What the model says of rows; those of like context length share a batch.

    Args:
        vectors: positions of rows to their unit vectors. search: to those that a memory is searched with, if other ones are.
        seed: of what is drawn, 0 without it.
    """
    contexts = [captioner.task.context(row) for row in rows]
    seeds = draw_seeds(seed or 0, (row.id for row in rows), contexts)
    said: dict[int, Answer] = {}
    with progress("predicting", "rows") as update:
        for batch in by_length(contexts, batch_size):
            found = captioner.answer(
                vectors(batch),
                [contexts[i] for i in batch],
                modality=modality,
                labels=decoding.labels,
                decode=decoding.how,
                normalise=decoding.normalise,
                search=search(batch).main if search else None,
                seeds=[seeds[i] for i in batch],
                **generation,
            )
            said |= dict(zip(batch, found, strict=True))
            update(len(said), len(rows))
    return [said[index] for index in range(len(rows))]


def by_length(contexts: Sequence[str], size: int, share: slice = slice(None)) -> Iterator[list[int]]:
    """Places of contexts in batches, like lengths together, so that little is padding; of all in this order, a `share`."""
    return windows(sorted(range(len(contexts)), key=lambda place: len(contexts[place]))[share], size)


def _table(encoder: ContrastiveEncoder, rows: RowFile, modality: Modality, missing: Missing | None) -> EmbeddingTable:
    """The rows' vectors; with images that can't be read only where these may be missing."""
    with progress(f"embedding {rows.path.name}", f"{modality}s") as update:
        if modality == "image" and missing in ("zero", "skip") and (images := images_of(rows)):
            return cached_images(images, encoder, progress=update)
        try:
            return cached_table(rows, encoder, modality, progress=update)
        except DataError as error:
            if modality == "image" and missing == "error" and images_of(rows):
                raise DataError(f"{error}; {_GO_ON}") from None
            raise


def _with_vector(
    rows: RowFile, examples: Sequence[Row], table: EmbeddingTable, missing: Missing | None, what: str
) -> Sequence[Row]:
    """The examples that have one; all must, unless images may be missing. `what` is what one lacks else."""
    if table.modality == "text":
        return examples
    known = set(table.ids)
    absent = next((row for row in examples if not known.issuperset(image_names(row))), None)
    if absent is not None and missing not in ("zero", "skip"):
        raise DataError(f"{rows.path}: row {absent.id!r} has no {what}" + (f"; {_GO_ON}" if missing else ""))
    return [row for row in examples if known.issuperset(image_names(row))]


def _vectors_of(
    task: Task, rows: RowFile, seen: Sequence[Row], table: EmbeddingTable, several: Several
) -> Callable[[Sequence[int]], Sets]:
    """Positions in `seen` to vectors: of images by the rows' ids, or of the texts of the file's first rows."""
    if table.modality == "text":
        return embeddings_of(rows, task, table, several).batch
    return image_vectors(seen, table, several).batch


def named_task(rows: RowFile, tasks: Sequence[str], who: str, hint: str = "") -> str:
    """The one task that is learnt; of several, the one that all rows name.

    Args:
        who: what has them, and `hint`, what else can be done, for the message.
    Raises:
        RecipeError: they do not all name one of them.
    """
    if len(tasks) == 1:
        return tasks[0]
    named = {row.task for row in rows}
    chosen = named.pop() if len(named) == 1 else None
    if chosen is None or chosen not in tasks:
        raise RecipeError(
            f"{who} has the tasks {', '.join(tasks)}, and the rows of {rows.path} do not all name one of them: give "
            f"every row the same 'task'{hint}"
        )
    return chosen


@contextmanager
def doing(captioner: CloseCaptioner, task: str) -> Iterator[Task]:
    """Set to a task, and to what it was set to afterwards: it may be the caller's."""
    before = captioner.task.name
    try:
        yield captioner.use_task(task).task
    finally:
        captioner.use_task(before)


def decoding_of(
    captioner: CloseCaptioner,
    task: Task,
    decode: Decode | None,
    normalise: bool,
    answers: str | Path | Sequence[str] | None,
    top: int | None,
) -> Decoding:
    """The closed set that an evaluation chooses from, if any."""
    if answers is not None and decode == "free":
        raise RecipeError("decoding 'free' takes no closed set of answers; leave them out, or decode by tree or score")
    if isinstance(answers, (str, Path)):
        return Decoding(decode, normalise, tuple(answer_vocabulary(answers, task, top, lowercase=captioner.lowercase)))
    if answers is not None and top is not None:
        raise RecipeError("the number of answers is of a file's; of answers that are given as a list, give so many")
    if answers is not None:
        return Decoding(decode, normalise, tuple(answers))
    if task.metric == "vqa" and decode in ("tree", "score"):
        return Decoding(decode, normalise, _learnt_answers(captioner, task, top or TOP_ANSWERS))
    if top is not None:
        raise RecipeError("the number of answers goes with a file of answers, or with VQA decoded by tree or score")
    return Decoding(decode, normalise)


def _learnt_answers(captioner: CloseCaptioner, task: Task, top: int) -> tuple[str, ...]:
    """The commonest targets of the data that the run was trained on, which must still be there unchanged."""
    found = training_file(captioner.folder, task, "the answers")
    if found is None:
        raise RecipeError(
            f"{captioner.name} was not trained on {task.name!r}, so it has no answers of its own; give them"
        )
    path, columns = found
    return tuple(answer_vocabulary(path, task, top, columns, lowercase=captioner.lowercase))


def training_file(run: str | Path, task: Task, instead: str) -> tuple[Path, Any] | None:
    """The file that a run learnt a task from, and its columns; None where it learnt another.

    Args:
        instead: what is to be given where the file can't be used.
    Raises:
        MismatchError: it has changed, or is gone.
    """
    trained = open_run(run)["train"]
    recipe = checked(read_values(Path(run) / RECIPE_FILE), str(Path(run) / RECIPE_FILE), only_keys=True)
    columns = recipe.data.columns
    for part, facts in zip(recipe.parts(), trained, strict=True):
        if part.task == task.name:
            if not Path(part.train).exists() or open_rows(part.train, columns).sha256 != facts["sha256"]:
                raise MismatchError(f"{part.train}, which {run} was trained on, has changed or gone; give {instead}")
            return Path(part.train), columns
    return None
