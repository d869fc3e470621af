"""A saved run in use: files of the second modality in, text out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from numbers import Integral
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from close.data.rows import Modality
from close.encoders import ContrastiveEncoder, load_encoder, pick_device
from close.errors import CloseError, DataError, RecipeError, counted, shown
from close.fast.precision import pick_dtype, pick_precision
from close.io.hub import run_folder
from close.io.places import moved_reference
from close.io.pretrained import load_tokenizer, loading, trusting, trusts_code
from close.model.modeling import CloseModel
from close.model.sets import Sets
from close.plugins import load_plugins, loaded
from close.runs.answering import Answerer, Decode
from close.runs.candidates import search_width
from close.runs.confidence import check_confidence
from close.runs.folder import open_run, recipe_of
from close.runs.items import Item, Items, boxed, draw_seeds, expand, item_files, item_name, read_items, tiled, together
from close.runs.outputs import Answer, Candidate, Output
from close.runs.vector_items import VectorItems

__all__ = ["Answer", "Candidate", "CloseCaptioner", "Decode", "Item", "Output", "load"]


def load(
    run: str | Path,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
    encoder: ContrastiveEncoder | str | None = None,
    language_model: str | None = None,
    memory: str | Path | None = None,
) -> CloseCaptioner:
    """A run made by `close train`, ready for use.

    Args:
        run: its folder, or ORG/NAME[@REVISION] of the Hugging Face hub, through its own cache.
        device: without one, the accelerator if there is one.
        precision: fp32, bf16, fp16, or auto: bf16 for large models where the hardware multiplies it, else fp32; int8: auto, and
            the encoder's products in 8 bits.
        encoder: where the encoder's weights are now, if elsewhere than when the run was trained; the same weights.
        language_model: likewise, of a run that was tuned by LoRA or not at all, which names its language model.
        memory: rows or an embedding table of texts to search in place of the memory that it was trained with: another domain's.
    Raises:
        MissingError: no finished run there, and none of that name on the hub, or no such memory.
        RecipeError: the memory has too few texts, or no words, or the run searches none.
        MismatchError: another encoder than the run was trained with, or a memory of another; names both.
        WeightsError: weights can't be loaded.
    """
    run = run_folder(run)
    info = open_run(run)
    place = pick_device(device)
    model = CloseModel.from_pretrained(run, base_place=language_model).eval()
    dtype = pick_dtype(pick_precision(precision, place, model.num_parameters()))
    for part in (model.language_model, model.prefix):  # the adapter keeps float32
        part.to(dtype)
    model.to(place)
    tokenizer = load_tokenizer(str(run), model.get_input_embeddings().num_embeddings)
    captioner = CloseCaptioner(model, tokenizer, tasks=info["tasks"], name=str(run))
    captioner.precision = precision
    captioner.base_place = language_model and moved_reference(language_model, os.path.abspath)
    captioner.asked = None if device is None else place.type
    captioner.without_context = {part["task"] for part in info["train"] if part.get("contexts") is False}
    captioner.lowercase = recipe_of(Path(run)).get("lowercase") is not False
    with loading(f"{run}: the run can't be used"):  # what its files say only shows when it is done once
        captioner.try_out()
    captioner.memory.settings = {"device": place, "precision": precision}
    if encoder is not None:
        captioner.use_encoder(encoder)
    if memory is not None:
        captioner.memory.use(memory)
    return captioner


def _load_again(
    run: str,
    plugins: list[str],
    *,
    trust: bool,
    task: str,
    silent: bool,
    dtype: torch.dtype,
    reader: tuple[str, str] | None,
    **settings: Any,
) -> CloseCaptioner:
    """In another process, with the plug-ins and the trust that this one was given, at the same task and as silent.

    Args:
        dtype: what the precision has come to. reader: the encoder, and what it has come to there.
    """
    load_plugins(plugins)
    with trusting(trust):
        captioner = load(run, **settings).use_task(task)
        for part in (captioner.model.language_model, captioner.model.prefix):
            part.to(dtype)
        if reader:
            name, precision = reader
            captioner.use_encoder(load_encoder(name, device=captioner.model.device, precision=precision))
    if silent:
        captioner.without_confidence()
    return captioner


@dataclass(frozen=True)
class Vectors:
    """A batch of items as the encoder reads them.

    Attributes:
        start: place of its first item. good: places in the batch of those that could be read; sets: their vectors.
        errors: of the others, by place. search: what a memory is searched with, where that is another encoder's.
    """

    start: int
    good: list[int]
    errors: dict[int, CloseError]
    sets: Sets
    search: Tensor | None


class CloseCaptioner(Answerer):
    """`captioner("photo.jpg")`; also bytes, open files, PIL images, arrays, folders, and several of them.

    Any task of the run, with `context` where it has one.

    The encoder is loaded when the first item needs it.
    """

    base_place: str | None = None  # where its language model is now, if elsewhere than when it was trained
    asked: str | None = None  # the kind of device that was asked for: another process takes what its machine has

    def __repr__(self) -> str:
        about = f"task={self.task.name!r}, encoder={self.model.config.encoder!r}, device={str(self.model.device)!r}"
        return f"{type(self).__name__}({self.name!r}, {about})"

    def try_out(self) -> None:
        """Say one token of something; raises what is wrong with the parts.

        In transformers, whose search heeds every setting: that of `close.fast` would first be tried out itself, for ten times as
        long.
        """
        self.tokenizer.batch_decode(self.tokenizer(["a photo of a dog?"])["input_ids"])
        embeds = F.normalize(torch.ones(1, self.model.config.embed_dim, device=self.model.device), dim=-1)
        self.model.generate(embeds, max_new_tokens=1, return_dict_in_generate=True)

    @overload
    def __call__(
        self, items: Item, context: str | Sequence[str] = "", *, batch_size: int = 32, **generation: Any
    ) -> Output: ...
    @overload
    def __call__(
        self, items: Iterable[Item], context: str | Sequence[str] = "", *, batch_size: int = 32, **generation: Any
    ) -> list[Output]: ...
    def __call__(
        self,
        items: Items,
        context: str | Sequence[str] = "",
        *,
        boxes: Sequence[Sequence[float]] | None = None,
        tiles: tuple[int, int] | str | None = None,
        frames: int | None = None,
        batch_size: int = 32,
        **generation: Any,
    ) -> Output | list[Output]:
        """One output for one item; a list for several: a list, a generator, a column of names; of a folder, whatever its type.

        A list inside the list is one item of several files, views of a thing or frames of a film: of
        `captioner([["a.jpg", "b.jpg"]])` there is one output. They become one vector or a set, as the run learnt it (`several`).

        Args:
            items: a file's name, its bytes, an open file, a PIL image or an array; or several of these and of folders.
            context: the question, hypothesis or article: one for all, or one for each.
            boxes: [left, top, width, height] in pixels, of one picture: an output for each box, of what is in it.
            tiles: (rows, columns), or "2x2": each picture is an item of itself and its tiles, for large ones.
            frames: of each film or folder of frames, at even distances, an item; 8 of a film, without it.
            generation: what `answer` takes (n, rerank, labels, decode, normalise), `min_confidence`, `seed`, and
                what transformers' generate takes (num_beams, do_sample, top_p, max_new_tokens …), but for `max_length` and what
                needs a prompt of tokens.
        Raises:
            CloseError: a single item can't be read; of several, that item's output carries the error.
        """
        self.check_parts(boxes=boxes is not None, tiles=tiles is not None, frames=frames is not None)
        many, single = expand(items, self.encoder.item_suffixes, frames=frames)
        if boxes is not None:
            many, single = boxed(many, boxes), False
        many = [tiled(item, tiles) for item in many] if tiles else many
        outputs = self.outputs(many, context=context, batch_size=batch_size, **generation)
        return _only(outputs) if single else outputs

    def check_parts(self, *, boxes: bool, tiles: bool, frames: bool) -> None:
        """Refuse parts that an item can't have.

        Raises:
            RecipeError: parts of pictures, and the encoder reads something else; or boxes and frames together.
        """
        if (boxes or tiles) and self.encoder.items != "images":
            raise RecipeError(
                f"boxes and tiles are of pictures, and the encoder of {self.name} reads {self.encoder.items}"
            )
        if boxes and frames:
            raise RecipeError("boxes are of one picture, and frames of films: give one of the two")

    def embed_to_text(
        self,
        vectors: Any,
        context: str | Sequence[str] = "",
        *,
        modality: Modality | None = None,
        batch_size: int = 32,
        **generation: Any,
    ) -> Output | list[Output]:
        """Text of vectors of the run's encoder, which need not be there: an output for one (D,), a list for several (N, D).

        Args:
            vectors: numbers of any length (NumPy, torch, lists), an `EmbeddingTable`, or the place of a table or of `.npy` files;
                (N, k, D) are N items of k vectors each, and so are rows of a table whose ids are `x#0`, `x#1`, ….
            context: the question, hypothesis or article: one for all, or one for each.
            modality: the side of the adapter that they pass, "text" or "image"; without it, a table's own, else "image".
            generation: as in a call with items.
        Returns:
            Outputs whose `item` is the table's id of the row, or its number from 0.
        Raises:
            MismatchError: they are of another encoder or width than the run's. DataError: no such array; or a single vector is
                zero or not finite: of several, that vector's output carries the error.
        """
        source = VectorItems(vectors, self.model.config, self.name, modality)
        settings = {"batch_size": batch_size, "source": source, **generation}
        outputs = self.outputs(range(len(source)), context=context, **settings)
        return _only(outputs) if source.single else outputs

    def outputs(
        self, items: Sequence[Any], *, context: str | Sequence[str], batch_size: int, **generation: Any
    ) -> list[Output]:
        """The outputs of items, or of the part of them that one process is given.

        Args:
            context: one for all, or one for each. generation: as `stream` takes it.
        """
        contexts = [context] * len(items) if isinstance(context, str) else _texts(context)
        if len(contexts) != len(items):
            raise DataError(f"{len(contexts)} contexts for {len(items)} items: give one for all, or one for each")
        return list(self.stream(items, contexts, batch_size=batch_size, **generation))

    def __reduce__(self) -> Any:
        """Pickled as the run's folder: another process loads the same weights for itself."""
        where: dict[str, Any] = {"device": self.asked, "precision": self.precision, "memory": self.memory.given}
        where |= {"dtype": self.model.prefix.weight.dtype}
        where |= {"reader": self._encoder and (self._encoder.name, self._encoder.precision)}
        where |= {"language_model": self.base_place, "task": self.task.name}
        again = partial(_load_again, trust=trusts_code(), silent=self.silent, **where)
        return again, (str(self.folder), loaded())

    def stream(
        self,
        items: Sequence[Any],
        contexts: Sequence[str],
        *,
        batch_size: int = 32,
        seed: int | Sequence[int] | None = None,
        source: VectorItems | None = None,
        modality: Modality | None = None,
        min_confidence: float | None = None,
        **generation: Any,
    ) -> Iterator[Output]:
        """The outputs one after the other, as batches finish.

        Args:
            min_confidence: outputs that are less sure say nothing and are marked (`Output.left_out`).
            seed: of what is drawn: the same items in one call get the same texts again, whatever the batch size and whatever was
                said before, and an item that is listed several times gets as many draws. Torch's generator stays where it is.
                Or a list of each item's own (`draw_seeds`), which a job that goes on, or is spread, makes of all its items.
            source: what the items are rows of; without it, they are the second modality's files.
            modality: the side of the adapter that they pass; without it, the source's own, or "image".
        Raises:
            RecipeError: a seed is no whole number, or nothing is drawn; or settings do not go together.
        """
        if min_confidence is not None:
            check_confidence(min_confidence, self.confidence, self.name)
        name = source.name if source else item_name
        modality = modality or (source.modality if source else "image")
        self._check_contexts(contexts)
        seeds = None if seed is None else self._seeds(seed, list(map(name, items)), contexts, generation)
        for read in self.read(items, batch_size, source):
            batch = items[read.start : read.start + batch_size]
            asked = [contexts[read.start + i] for i in read.good]
            how: dict[str, Any] = {"modality": modality, "search": read.search}
            how["seeds"] = seeds and [seeds[read.start + i] for i in read.good]
            with self.one_at_a_time:
                said = self.answer(read.sets, asked, **how, **generation) if asked else []
            if self.confidence and not source:
                said = self.confidence.of_items(said, [len(item_files(batch[i])) for i in read.good])
            spoken = dict(zip(read.good, said, strict=True))
            for index, item in enumerate(batch):
                named = name(item) if source else item_name(item, read.start + index + 1)
                if index in read.errors:
                    yield Output("", float("nan"), named, str(read.errors[index]))
                else:
                    if min_confidence is not None and spoken[index].confidence is None:
                        apart = self.confidence.other if self.confidence else ""
                        raise RecipeError(f"{self.name} was calibrated with {apart}; calibrate it with these settings")
                    yield Output.of(spoken[index], named, min_confidence)

    def _seeds(
        self, seed: Any, names: Sequence[str], contexts: Sequence[str], generation: Mapping[str, Any]
    ) -> Sequence[int]:
        """Of each item what its draws start from."""
        if not search_width(self.model.generation_config, generation, 1)[0]:
            raise RecipeError(
                "seed is of what is drawn, and texts are searched for: draw (do_sample=True), or leave it out"
            )
        if not isinstance(seed, (list, tuple)):
            return draw_seeds(seed, names, contexts)
        if len(seed) != len(names) or not all(isinstance(one, Integral) for one in seed):
            raise RecipeError(
                f"seed is a whole number, or a list of one for each of the {len(names)} items, not {shown(seed)}"
            )
        return seed

    def _check_contexts(self, contexts: Sequence[str]) -> None:
        """Refuse an empty one, where the task asks something of an item."""
        if (empty := next((place for place, text in enumerate(contexts) if not text.strip()), None)) is None:
            return
        if self.task.asks:
            which = f"item {empty + 1} has none" if any(contexts) else "none is given"
            raise RecipeError(
                f"task {self.task.name!r} asks something of each item, its context, and {which} (--context, in Python context=)"
            )

    def read(self, items: Sequence[Any], batch_size: int, source: VectorItems | None = None) -> Iterator[Vectors]:
        """The vectors of items, a batch at a time; the next batch is read meanwhile.

        Args:
            source: what the items are rows of; without it, they are the second modality's files.
        Raises:
            DataError: an item is of another number of files than the task takes. RecipeError: `batch_size` is none.
        """
        batch_size = counted(batch_size, "batch_size")
        for place, item in enumerate(items if source is None else (), 1):
            self.task.check_views(len(item_files(item)), item_name(item, place))
        ahead = (
            source.batches(items, batch_size) if source else read_items(self.encoder.image_batches, items, batch_size)
        )
        other = None if source else self.memory.search
        searched = read_items(other().image_batches, items, batch_size) if other else repeat(None)
        for start, (features, errors), search in zip(range(0, len(items), batch_size), ahead, searched, strict=False):
            errors = errors | (search[1] if search else {})
            good = [i for i in range(len(items[start : start + batch_size])) if i not in errors]
            sets = together(features, good, self.model.config.several)
            asks = together(search[0], good, "mean").main if search else None
            yield Vectors(start, good, errors, sets, asks)


def _texts(contexts: Any) -> list[str]:
    found = list(contexts) if isinstance(contexts, Iterable) else [contexts]
    if wrong := [context for context in found if not isinstance(context, str)]:
        raise DataError(f"a context is a text, not {shown(wrong[0])}")
    return found


def _only(outputs: list[Output]) -> Output:
    if outputs[0].error:
        raise DataError(outputs[0].error)
    return outputs[0]
