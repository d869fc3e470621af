"""A score on validation rows while a run is trained, by which the best checkpoint is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from close.data.rows import Row, RowFile, evenly
from close.encoders import ContrastiveEncoder, encoder_name, load_encoder
from close.errors import DataError, MismatchError, RecipeError
from close.evaluation.images import one_row_an_image, select_rows
from close.evaluation.metrics import METRICS, Inputs, Metric, Score, VqaReference
from close.evaluation.metrics.tokens import unread
from close.evaluation.read import row_references
from close.evaluation.scores import score
from close.io.parts import file_of
from close.model.configuration import Several
from close.model.sets import Sets
from close.plugins import plugins_said, short_name
from close.registry import unknown_name
from close.retrieval.finder import Finder
from close.runs.pipeline import CloseCaptioner
from close.runs.predict import by_length
from close.runs.recipe import Recipe
from close.runs.row_vectors import image_vectors
from close.runs.stand_ins import stand_ins, unpaired_images
from close.tasks import Task, get_task
from close.vectors.arrays import vectors_sum
from close.vectors.build import images_of
from close.vectors.cache import cached_images
from close.vectors.open import open_vectors
from close.vectors.table import EmbeddingTable

__all__ = ["LOSS", "Validation", "ValidationRows", "best_score", "validation_rows"]

LOSS = "loss"
_WHERE = "training.metric_for_best"
_log = logging.getLogger(__name__)


def best_score(recipe: Recipe) -> tuple[Metric, Score] | None:
    """The metric and the score of it that the best checkpoint is known by; None where that is the loss, or nobody asks.

    A metric that yields several scores is known by its headline, or by its first; each may also be asked for by its own key.

    Raises:
        UnknownNameError: the task has no such metric.
    """
    name = recipe.training.metric_for_best
    if name is None or name == LOSS:
        return None
    found: dict[str, tuple[Metric, Score]] = {}
    for metric in METRICS.of(get_task(recipe.parts()[0].task).metric):
        found |= {one.key: (metric, one) for one in metric.scores}
    for metric, _ in list(found.values()):
        found[metric.name] = metric, next((one for one in metric.scores if one.headline), metric.scores[0])
    if name not in found:
        raise unknown_name(_WHERE, name, [*found, LOSS])
    return found[name]


@dataclass(frozen=True)
class ValidationRows:
    """What is scored: pictures, or where rows have none, texts that stand in for them (`close.runs.stand_ins`).

    Attributes:
        examples: a row each, with what is to be said of it. pictured: whether they have pictures.
        images: a table of images that no row belongs to, which says where the stand-ins are to lie.
    """

    rows: RowFile
    task: Task
    metric: Metric
    score: Score
    examples: Sequence[Row]
    pictured: bool
    images: Path | None = None

    def measured(self, said: Sequence[str], encoder: ContrastiveEncoder | None, vectors: Tensor | None) -> float:
        """The score of one text an example.

        Raises:
            RecipeError: it can't be made of these rows, or on this machine.
        """
        references = row_references(self.examples, self.task.metric)
        ids = list(references)
        texts, by_id = dict(zip(ids, said, strict=True)), {row.id: row for row in self.examples}
        more: dict[str, Any] = {"rows": by_id, "encoder": encoder}
        if vectors is not None:
            place = {name: index for index, name in enumerate(ids)}
            more["image_vectors"] = lambda names: vectors[[place[name] for name in names]].numpy()
        if not self.metric.applies(Inputs(ids, texts, references, **more)):
            raise RecipeError(f"{_WHERE}: {self.rows.path}: its rows lack what {self.metric.name!r} is made of")
        found = score(
            self.task.metric,
            texts,
            references,
            tokenizer="unicode" if self.task.metric == "caption" and unread(_texts(references)) else "python",
            metrics=[self.metric.name],
            samples=0,
            **more,
        )
        if found.get(self.score.key) is None:
            why = found.get("notes", {}).get(self.metric.name, "nothing came out")
            raise RecipeError(f"{_WHERE}: {self.metric.name!r} can't be made here: {why}")
        return float(found[self.score.key])

    def rehearse(self) -> None:
        """Score the truth, which shows before any work what can't be scored.

        Raises:
            CloseError: what is missing: references, Java, pictures, a second example.
        """
        if "encoder" in self.metric.needs:
            if not self.pictured:
                raise RecipeError(
                    f"{_WHERE}: {self.metric.name!r} looks at pictures; no row of {self.rows.path} has an image"
                )
            return
        try:
            truth = [_first(one) for one in row_references(self.examples, self.task.metric).values()]
        except DataError as error:
            raise DataError(f"{self.rows.path}: {error}") from None
        best = self.measured(truth, None, None)
        if best == 0 and self.score.higher_is_better:
            raise RecipeError(
                f"{_WHERE}: by {self.metric.name!r} even the truth scores 0 on the {len(self.examples)} examples of "
                f"{self.rows.path}; it needs more of them"
            )


def _texts(references: dict[str, list[str]]) -> list[str]:
    return [text for several in references.values() for text in several]


def _first(reference: Any) -> str:
    """A text that is right."""
    if isinstance(reference, str):
        return reference
    return str((reference.answers if isinstance(reference, VqaReference) else reference)[0])


def validation_rows(recipe: Recipe, rows: RowFile | None) -> ValidationRows | None:
    """The rows that a recipe's best checkpoint is known by; None where no score is asked for.

    At most `training.metric_rows`, spread over the file. Captions of one image are one example, as in `close evaluate`; of those
    without images, those of a group together stand in for the image, and all but the first are its references.

    Raises:
        RecipeError, DataError, UnknownNameError: what is missing: validation rows, the metric, references, pictures, Java.
    """
    name, found = recipe.training.metric_for_best, best_score(recipe)
    if name is not None and rows is None:
        raise RecipeError(f"{_WHERE}: {name!r} is measured on validation rows: data.val names none")
    if found is None or rows is None:
        return None
    task = get_task(recipe.parts()[0].task)
    shown = [row for row in rows if row.image is not None]
    if gone := next(((row.id, image) for row in shown for image in row.images if not file_of(image).exists()), None):
        raise DataError(f"{rows.path}: row {gone[0]!r}: {gone[1]}: no such file, and {_WHERE} looks at pictures")
    examples = one_row_an_image(shown, task.metric) if shown else select_rows(rows, task)
    if not examples:
        raise DataError(f"{rows.path}: {_WHERE}: no row has an image or a source to be scored on")
    chosen = [examples[place] for place in evenly(len(examples), recipe.training.metric_rows)]
    images = recipe.data.val_images
    if shown and images:
        raise RecipeError(
            f"data.val_images: {rows.path} has images of its own, which nothing stands in for; leave it out"
        )
    if images and (made_with := open_vectors(images, "image").encoder) not in (None, encoder_name(recipe.encoder)):
        raise MismatchError(
            f"data.val_images: {images} was made with encoder {made_with!r}, the recipe says {recipe.encoder!r}"
        )
    found_rows = ValidationRows(rows, task, *found, chosen, bool(shown), images)
    found_rows.rehearse()
    return found_rows


class Validation:
    """Scores a model in training, the same in every process.

    Args:
        rows: what is scored. encoder: gives the run's. table: of all validation rows, by the side that the recipe trains on.
        recipe: says how, and which tasks the run learns. finder: what searches the run's memory, if it has one.
    Attributes:
        shown: what the examples' vectors are of. sums: SHA-256 of the table of images that no row belongs to, by its path.
    """

    def __init__(
        self,
        rows: ValidationRows,
        encoder: Callable[[], ContrastiveEncoder],
        table: EmbeddingTable,
        recipe: Recipe,
        finder: Finder | None = None,
    ) -> None:
        self.rows, self.encoder, self.finder = rows, encoder, finder
        self.tasks, self.lowercase = [part.task for part in recipe.parts()], recipe.lowercase
        self.num_beams, self.batch_size = recipe.training.metric_beams, min(recipe.training.batch_size, 64)
        self.shown, self.sums = "pictures", dict[str, str]()
        self.vectors = self._vectors(table, recipe.several)
        self.search: Tensor | None = None
        if finder is not None and finder.search_encoder:
            other = load_encoder(finder.search_encoder)
            self.search = (self._pictures(other, "mean") if rows.pictured else self._stand_ins(other, "mean")[0]).main

    def _vectors(self, table: EmbeddingTable, several: Several) -> Sets:
        """Unit vectors of the examples."""
        rows = self.rows
        if not rows.pictured:
            encoder, images = self.encoder(), None
            if rows.images:
                images = unpaired_images(rows.images, encoder)
                self.sums[str(rows.images)] = vectors_sum(images)
            found, made_of = self._stand_ins(encoder, several, images)
            self.shown = f"texts that stand in for pictures ({made_of})"
            return found
        if table.modality != "image":
            return self._pictures(self.encoder(), several)
        return image_vectors(rows.examples, table, several).batch(range(len(rows.examples)))

    def _stand_ins(self, encoder: ContrastiveEncoder, several: Several, images: Any = None) -> tuple[Sets, str]:
        """Unit vectors of what stands in for the examples' pictures, and what it is made of."""
        found = stand_ins(self.rows.examples, self.rows.task, encoder, images, several=several)
        return Sets(torch.from_numpy(found.vectors)), found.made_of

    def _pictures(self, encoder: ContrastiveEncoder, several: Several) -> Sets:
        """Unit vectors of the examples' pictures."""
        rows = self.rows
        table = cached_images(images_of(rows.examples), encoder)
        if failed := table.failures:
            raise DataError(f"{rows.rows.path}: row {failed[0]['id']!r}: {failed[0]['reason']}")
        return image_vectors(rows.examples, table, several).batch(range(len(rows.examples)))

    @property
    def about(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        rows = self.rows
        return {
            "metric": rows.score.key,
            "examples": len(rows.examples),
            "shown": self.shown,
            **({"images_sha256": next(iter(self.sums.values()))} if self.sums else {}),
            "num_beams": self.num_beams,
            "sha256": rows.rows.sha256,
            **(plugins_said([short_name(origin)]) if (origin := METRICS.origins.get(rows.metric.name)) else {}),
        }

    def tell(self) -> None:
        """Say once what the best checkpoint is known by."""
        about = self.about
        _log.warning(
            "training: the best checkpoint is the one with the %s %s on %d %s of %s, captioned %s",
            "highest" if self.rows.score.higher_is_better else "lowest",
            self.rows.score.label,
            about["examples"],
            about["shown"],
            self.rows.rows.path,
            "greedily" if self.num_beams == 1 else f"by {self.num_beams} beams",
        )

    def __call__(
        self,
        model: Any,
        tokenizer: Any,
        process: int = 0,
        processes: int = 1,
        *,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> float:
        """The score of what a `CloseModel` says now; each of several processes says a share, and all get the same score.

        Args:
            autocast: gives the precision that the model speaks in; the metric's encoder keeps its own.
        """
        captioner = CloseCaptioner(model.eval(), deepcopy(tokenizer), tasks=self.tasks)
        captioner.lowercase = self.lowercase
        if self.finder is not None:
            captioner.memory.finder = self.finder
        contexts = [captioner.task.context(row) for row in self.rows.examples]
        said: list[tuple[int, str]] = []
        for batch in by_length(contexts, self.batch_size, slice(process, None, processes)):
            with autocast():
                answers = captioner.answer(
                    self.vectors[batch],
                    [contexts[index] for index in batch],
                    num_beams=self.num_beams,
                    search=None if self.search is None else self.search[batch],
                )
            said += [(index, answer.text) for index, answer in zip(batch, answers, strict=True)]
        texts = dict(gather_object(said))
        every = [texts[index] for index in range(len(contexts))]
        if "encoder" not in self.rows.metric.needs:
            return self.rows.measured(every, None, None)
        return self.rows.measured(every, self.encoder(), self.vectors.main)
