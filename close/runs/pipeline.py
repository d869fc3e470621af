"""A saved run in use: files of the second modality in, text out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, get_args, overload

import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from close.data.rows import Modality
from close.encoders import ContrastiveEncoder, load_encoder, pick_device
from close.errors import CloseError, DataError, MismatchError, RecipeError, WeightsError, reason
from close.fast.precision import pick_dtype, pick_precision
from close.io.keys import text_key
from close.io.media import describe, media_below, some
from close.io.pretrained import load_tokenizer, loading, trusting, trusts_code
from close.model.answers import LabelTree, label_scores
from close.model.modeling import CloseModel
from close.plugins import load_plugins, loaded
from close.registry import unknown_name
from close.runs.examples import Prompter
from close.runs.folder import open_run
from close.runs.outputs import Answer, Output
from close.tasks import get_task

__all__ = ["Answer", "CloseCaptioner", "Decode", "Item", "Output", "load"]

Item: TypeAlias = str | os.PathLike[str] | bytes | IO[bytes] | PIL.Image.Image | NDArray[Any] | Tensor
"""One file of the second modality: its name, its content, or what its library makes of it."""
Items: TypeAlias = Item | Iterable[Item]
Decode = Literal["tree", "score", "free"]
"""How an answer from a closed set is found: generated along a prefix tree, the likeliest of all, or generated freely."""


def load(
    run: str | Path,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
    encoder: ContrastiveEncoder | str | None = None,
) -> CloseCaptioner:
    """A run made by `close train`, ready for use.

    Args:
        run: its folder. device: without one, the accelerator if there is one.
        precision: fp32, bf16, fp16, or auto: bf16 for large models where the hardware multiplies it, else fp32.
        encoder: where the encoder's weights are now, if elsewhere than when the run was trained; the same weights.
    Raises:
        MissingError: no finished run there.
        MismatchError: another encoder than the run was trained with; names both.
        WeightsError: weights can't be loaded.
    """
    info = open_run(run)
    place = pick_device(device)
    model = CloseModel.from_pretrained(run).eval()
    dtype = pick_dtype(pick_precision(precision, place, model.num_parameters()))
    for part in (model.language_model, model.prefix):  # the adapter keeps float32
        part.to(dtype)
    model.to(place)
    tokenizer = load_tokenizer(str(run), model.get_input_embeddings().num_embeddings)
    captioner = CloseCaptioner(model, tokenizer, tasks=info["tasks"], name=str(run))
    captioner.precision = precision
    with loading(f"{run}: the run can't be used"):  # what its files say only shows when it is done once
        captioner.try_out()
    if encoder is not None:
        captioner.use_encoder(encoder)
    return captioner


def _load_again(run: str, plugins: list[str], *, trust: bool, **settings: Any) -> CloseCaptioner:
    """In another process, with the plug-ins and the trust that this one was given."""
    load_plugins(plugins)
    with trusting(trust):
        return load(run, **settings)


class CloseCaptioner:
    """`captioner("photo.jpg")`; also bytes, open files, PIL images, arrays, folders, and several of them.

    Any task of the run, with `context` where it has one.

    The encoder is loaded when the first item needs it.
    """

    def __init__(self, model: CloseModel, tokenizer: Any, *, tasks: Sequence[str], name: str = "this model") -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.tasks = tuple(tasks)
        self.task = get_task(tasks[0])
        self.name = name
        self.precision = "auto"
        self.prompter = Prompter(tokenizer)
        self._encoder: ContrastiveEncoder | None = None
        self._trees: dict[tuple[str, ...], LabelTree] = {}

    def try_out(self) -> None:
        """Say one token of something; raises what is wrong with the parts."""
        self.tokenizer.batch_decode(self.tokenizer(["a photo of a dog?"])["input_ids"])
        self.model.generate_scored(
            F.normalize(torch.ones(1, self.model.config.embed_dim, device=self.model.device), dim=-1), max_new_tokens=1
        )

    def use_task(self, name: str) -> CloseCaptioner:
        """Do this task from now on; where the run learnt several, its instruction tells the model which. Returns self.

        Raises:
            UnknownNameError: no such task.
        """
        self.task = get_task(name)
        return self

    @property
    def instructs(self) -> bool:
        """Whether the run learnt several tasks, told apart by their instructions."""
        return len(self.tasks) > 1

    def prompts(self, contexts: Sequence[str]) -> dict[str, Tensor]:
        """`context_ids` and `context_mask` of contexts, behind the task's instruction where the run needs it."""
        texts = [self.task.prompt(context, self.instructs) for context in contexts]
        return {key: value.to(self.model.device) for key, value in self.prompter(texts).items()}

    @property
    def encoder(self) -> ContrastiveEncoder:
        """The contrastive encoder that the run was trained with."""
        if self._encoder is None:
            self.use_encoder(self.model.config.encoder)
        assert self._encoder is not None
        return self._encoder

    def use_encoder(self, encoder: ContrastiveEncoder | str) -> None:
        """Take this encoder, if its weights are those of the run.

        Raises:
            MismatchError: they are not; names both.
        """
        if isinstance(encoder, str):
            encoder = load_encoder(encoder, device=self.model.device, precision=self.precision)
        config = self.model.config
        if encoder.fingerprint != config.encoder_fingerprint:
            raise MismatchError(
                f"{self.name} was trained with encoder {config.encoder!r} (weights {config.encoder_fingerprint[:8]}), not with "
                f"{encoder.name!r} (weights {encoder.fingerprint[:8]}): load it with the former"
            )
        self._encoder = encoder

    @overload
    def __call__(
        self, items: Item, context: str | Sequence[str] = "", *, batch_size: int = 32, **generation: Any
    ) -> Output: ...
    @overload
    def __call__(
        self, items: Iterable[Item], context: str | Sequence[str] = "", *, batch_size: int = 32, **generation: Any
    ) -> list[Output]: ...
    def __call__(
        self, items: Items, context: str | Sequence[str] = "", *, batch_size: int = 32, **generation: Any
    ) -> Output | list[Output]:
        """One output for one item; a list for several: a list, a generator, a column of names; of a folder, whatever its type.

        Args:
            items: a file's name, its bytes, an open file, a PIL image or an array; or several of these and of folders.
            context: the question, hypothesis or article: one for all, or one for each.
            generation: what `answer` takes (labels, decode, normalise), and anything that transformers' generate takes:
                num_beams, do_sample, top_p, max_new_tokens …
        Raises:
            CloseError: a single item can't be read; of several, that item's output carries the error.
        """
        many, single = expand(items, self.encoder.item_suffixes)
        contexts = [context] * len(many) if isinstance(context, str) else list(context)
        if len(contexts) != len(many):
            raise DataError(f"{len(contexts)} contexts for {len(many)} items: give one for all, or one for each")
        outputs = list(self.stream(many, contexts, batch_size=batch_size, **generation))
        if single and outputs[0].error:
            raise DataError(outputs[0].error)
        return outputs[0] if single else outputs

    def outputs(self, items: Sequence[Any], *, context: str, batch_size: int, **generation: Any) -> list[Output]:
        """One part of a job that is spread over processes."""
        return list(self.stream(items, [context] * len(items), batch_size=batch_size, **generation))

    def __reduce__(self) -> Any:
        """Pickled as the run's folder: another process loads the same weights for itself."""
        place, encoder = str(self.model.device), self._encoder.name if self._encoder else None
        again = partial(_load_again, trust=trusts_code(), device=place, precision=self.precision, encoder=encoder)
        return again, (str(Path(self.name).resolve()), loaded())

    def stream(
        self,
        items: Sequence[Any],
        contexts: Sequence[str],
        *,
        batch_size: int = 32,
        seed: int | None = None,
        **generation: Any,
    ) -> Iterator[Output]:
        """The outputs one after the other, as batches finish.

        Args:
            seed: with it, sampling in a batch starts from the seed and the batch's items, whatever was said before: a job that
                goes on, or is spread, says what it would have said in one piece.
        """
        ahead = self.encoder.image_batches(items, batch_size)  # reads the next pictures while texts are generated
        for start, (features, errors) in zip(range(0, len(items), batch_size), ahead, strict=True):
            batch, texts = items[start : start + batch_size], contexts[start : start + batch_size]
            good = [i for i in range(len(batch)) if i not in errors]
            if seed is not None:
                torch.manual_seed(text_key(f"{seed} " + "\0".join(describe(item) for item in batch)))
            said = (
                self.answer(F.normalize(features[good], dim=-1), [texts[i] for i in good], **generation) if good else []
            )
            spoken = dict(zip(good, said, strict=True))
            for index, item in enumerate(batch):
                if index in errors:
                    yield Output("", float("nan"), describe(item, start + index + 1), str(errors[index]))
                else:
                    text, score, probabilities = spoken[index]
                    yield Output(text, score, describe(item, start + index + 1), probabilities=probabilities)

    def answer(
        self,
        embeds: Tensor,
        contexts: Sequence[str],
        *,
        modality: Modality = "image",
        labels: Sequence[str] | None = None,
        decode: Decode | None = None,
        normalise: bool = False,
        **generation: Any,
    ) -> list[Answer]:
        """What the model says of unit embeddings (B, D).

        Args:
            labels: the closed set of answers; without it, the task's own if it has one.
            decode: "tree": generated, kept inside the labels. "score": every label's exact likelihood, the likeliest is
                said. "free": anything may come out. Without it, "tree" where there are labels, else "free".
            normalise: with "score", divide log-likelihoods by the labels' lengths in tokens.
        Raises:
            RecipeError: no labels to choose from, or settings that do not go together.
            WeightsError: a score is NaN or infinite.
        """
        labels = self.task.labels if labels is None else labels
        how = decode or ("tree" if labels else "free")
        if how not in get_args(Decode):
            raise unknown_name("decoding", how, get_args(Decode))
        if how != "free" and not labels:
            raise RecipeError(f"decoding {how!r} needs a closed set of answers, and task {self.task.name!r} has none")
        if how != "score":
            if normalise:
                raise RecipeError(f"lengths are normalised where labels are scored (decoding 'score', not {how!r})")
            said = self.generate(
                embeds, contexts, modality=modality, labels=() if how == "free" else labels, **generation
            )
            return self._finite([Answer(*one) for one in said])
        if generation:
            raise RecipeError(f"decoding 'score' generates nothing; leave out {', '.join(generation)}")
        scores = self._label_scores(embeds, contexts, labels, modality, normalise)
        shares = scores.softmax(-1)
        return self._finite([_likeliest(labels, *row) for row in zip(scores, shares, strict=True)])

    def _finite(self, answers: list[Answer]) -> list[Answer]:
        for answer in answers:
            if not math.isfinite(answer.score):
                raise self._not_finite(f"the score of {answer.text!r} is {answer.score}")
        return answers

    def _not_finite(self, what: str) -> WeightsError:
        dtype = str(self.model.prefix.weight.dtype).removeprefix("torch.")
        return WeightsError(
            f"{self.name}: {what}: what it computes does not fit into {dtype} (try precision fp32), or it was trained to nothing"
        )

    def generate(
        self,
        embeds: Tensor,
        contexts: Sequence[str],
        *,
        modality: Modality = "image",
        labels: Sequence[str] | None = None,
        **generation: Any,
    ) -> list[tuple[str, float]]:
        """Text and score of unit embeddings (B, D).

        Args:
            labels: only these may come out (a prefix tree keeps generation among them). Without them, the task's own
                closed set if it has one; an empty list decodes freely.
        """
        device = self.model.device
        labels = self.task.labels if labels is None else labels
        if labels:
            tree = self._tree(tuple(labels))
            generation = {"max_new_tokens": tree.longest, "prefix_allowed_tokens_fn": tree, **generation}
        try:
            ids, scores = self.model.generate_scored(
                embeds.to(device), modality, **self.prompts(contexts), **generation
            )
        except RuntimeError as error:  # of torch.multinomial
            if "probability tensor" not in str(error):
                raise
            raise self._not_finite("the next token's probabilities are NaN") from None
        except (ArithmeticError, TypeError, ValueError) as error:
            if isinstance(error, CloseError) or not _is_about_settings(error):
                raise
            raise RecipeError(f"generation settings: {reason(error)}") from None
        if len(ids) != len(embeds):
            raise RecipeError("generation settings: one text comes out for one item, leave num_return_sequences at 1")
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return list(zip((text.strip() for text in texts), scores.tolist(), strict=True))

    def _tree(self, labels: tuple[str, ...]) -> LabelTree:
        if labels not in self._trees:
            self._trees[labels] = LabelTree(self.tokenizer, labels)
        return self._trees[labels]

    def _label_scores(
        self, embeds: Tensor, contexts: Sequence[str], labels: Sequence[str], modality: Modality, normalise: bool
    ) -> Tensor:
        return label_scores(
            self.model,
            self.tokenizer,
            embeds.to(self.model.device),
            labels,
            modality=modality,
            normalise=normalise,
            context=self.prompts(contexts),
        )


def _is_about_settings(error: BaseException) -> bool:
    """Whether transformers' generation refused its settings; what is raised anywhere else is a fault, and stays one."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("transformers.generation")


def _likeliest(labels: Sequence[str], scores: Tensor, shares: Tensor) -> Answer:
    order = shares.argsort(descending=True, stable=True).tolist()
    return Answer(labels[order[0]], float(scores[order[0]]), {labels[i]: float(shares[i]) for i in order})


def expand(items: Items, suffixes: Sequence[str]) -> tuple[list[Any], bool]:
    """A list of items, and whether a single one was meant; folders are replaced by their files, in order.

    Raises:
        DataError: a folder without any file of these endings.
    """
    several = not _is_one(items)
    found: list[Any] = []
    every: Iterable[Any] = items if several else [items]  # type: ignore[assignment]
    for item in every:
        if isinstance(item, (str, os.PathLike)) and Path(item).is_dir():
            files = media_below(Path(item), suffixes)
            if not files:
                raise DataError(f"{item}: no file in this folder ends in {some(suffixes)}")
            found.extend(files)
            several = True
        else:
            found.append(item)
    return found, not several


def _is_one(items: Any) -> bool:
    """Whether this is one item, though it may be a sequence of characters, bytes, lines or numbers."""
    if isinstance(items, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(items, "read"):
        return True
    kind = getattr(getattr(items, "dtype", None), "kind", None)  # names in an array or a table's column are several
    return kind not in ("O", "U", "T") if hasattr(items, "dtype") else not isinstance(items, Iterable)
