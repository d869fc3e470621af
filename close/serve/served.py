"""A run that is served: what it says of itself, and its work on a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from close.data.rows import Modality
from close.encoders.base import told_cut
from close.errors import RecipeError
from close.runs.folder import task_among
from close.runs.pipeline import CloseCaptioner, load
from close.runs.vector_items import VectorItems
from close.tasks import get_task

__all__ = ["Served", "Work", "load_runs"]


@dataclass(frozen=True)
class Work:
    """What is done with items; requests that want the same are answered together.

    Attributes:
        run: its name. modality: what the items are. task: None for the encoder's vectors alone.
        settings: names and values of generation's settings, by name. views: texts or pictures that each item is made of.
    """

    run: str
    modality: Modality
    task: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    views: int = 1

    @classmethod
    def of(cls, run: str, modality: Modality, task: str, settings: dict[str, Any], views: int = 1) -> Work:
        """With settings as `close caption` takes them."""
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        return cls(run, modality, task, tuple(sorted(plain.items())), views)


class Served:
    """A loaded run under the name that requests give it."""

    def __init__(self, name: str, captioner: CloseCaptioner) -> None:
        self.name, self.captioner = name, captioner
        self.about = self._about()

    def _about(self) -> dict[str, Any]:
        captioner, config = self.captioner, self.captioner.model.config
        tasks = [{"name": name, **_about_task(captioner, name)} for name in captioner.tasks]
        return {
            "name": self.name,
            "tasks": tasks,
            "encoder": config.encoder,
            "encoder_fingerprint": config.encoder_fingerprint,
            "embed_dim": config.embed_dim,
            "items": captioner.encoder.items,
            "language_model": config.language_model.model_type,
            "adapter": config.adapter,
            "parameters": sum(parameter.numel() for parameter in captioner.model.parameters()),
        }

    def task(self, name: str | None) -> str:
        """A task of the run; its first where none is named.

        Raises:
            UnknownNameError: it has not learnt it.
        """
        return task_among(self.captioner.tasks, name)

    def opened(self, item: Any) -> Any:
        """A text as it is; of a file, the encoder's inputs, or what is wrong with it."""
        return item if isinstance(item, str) else self.captioner.encoder.opened(item)

    def work(self, what: Work, items: Sequence[tuple[Any, str]], batch_size: int) -> list[dict[str, Any]]:
        """A result for each of items that are opened, with their contexts."""
        inputs, contexts = [item for item, _ in items], [context for _, context in items]
        if what.task is None:
            return [{"embed": row} for row in self._embeds(inputs, what.modality).tolist()]
        settings: dict[str, Any] = {"batch_size": batch_size, **dict(what.settings)}
        if what.modality == "text":
            texts = [text for item in inputs for text in item] if what.views > 1 else inputs
            vectors = self._views(texts, what.views) if what.views > 1 else self._embeds(texts, "text")
            settings["source"] = VectorItems(vectors, self.captioner.model.config, self.name, "text")
            inputs = list(range(len(inputs)))
        self.captioner.use_task(what.task)
        return [output.to_dict() for output in self.captioner.stream(inputs, contexts, **settings)]

    def _views(self, texts: list[str], views: int) -> Tensor:
        """Unit vectors of items of several texts each, (N, views, D), or where the run reads means those of raw ones, (N, D)."""
        if self.captioner.model.config.several == "set":
            return self._embeds(texts, "text").unflatten(0, (-1, views))
        encoder = self.captioner.encoder
        features, cut = encoder.read_texts(texts)
        if cut:
            encoder.tell_once("cut", told_cut(cut, len(texts), encoder.context))
        return F.normalize(features.unflatten(0, (-1, views)).mean(1), dim=-1)

    def _embeds(self, inputs: list[Any], modality: Modality) -> Tensor:
        encoder = self.captioner.encoder
        return encoder.encode_text(inputs) if modality == "text" else F.normalize(encoder.image_features(inputs)[0])


def _about_task(captioner: CloseCaptioner, name: str) -> dict[str, Any]:
    known = captioner.use_task(name).confidence
    task = get_task(name)
    return {"labels": list(task.labels), "views": task.views, "calibrated": known is not None and dict(known.settings)}


def load_runs(runs: Iterable[str | Path], *, memory: str | Path | None = None, **settings: Any) -> dict[str, Served]:
    """Finished runs by name, the last part of their folder's, each with its encoder; one that several have is loaded once.

    Args:
        memory: what those that retrieve search in place of their own. settings: others of `close.load`.
    Raises:
        RecipeError: two runs have one name, or none of them searches the memory that is given.
        CloseError: one can't be loaded.
    """
    found: dict[str, Served] = {}
    for run in runs:
        captioner = load(run, **settings)
        if memory is not None and captioner.memory:
            captioner.memory.use(memory)
        if captioner.memory.search:
            raise RecipeError(
                f"{run} searches its memory in another encoder than its own, and pictures are opened for one"
            )
        name = Path(run).resolve().name
        if name in found:
            raise RecipeError(f"two runs are called {name!r} ({found[name].captioner.name}, {run}); rename a folder")
        fingerprint = captioner.model.config.encoder_fingerprint
        for other in found.values():
            if other.captioner.encoder.fingerprint == fingerprint:
                captioner.use_encoder(other.captioner.encoder)
        found[name] = Served(name, captioner)
        _ = captioner.encoder  # what can't be loaded is told now
        captioner.memory.open()
    if memory is not None and not any(served.captioner.memory for served in found.values()):
        raise RecipeError(f"no run here searches a memory: {', '.join(found)} were trained without 'retrieve'")
    return found
