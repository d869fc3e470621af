"""What a run says of vectors of its encoder: answers, and how sure it is of them."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import takewhile
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Self, get_args

from torch import Tensor

from close.data.rows import Modality
from close.encoders import ContrastiveEncoder, load_encoder
from close.errors import CloseError, MismatchError, MissingError, RecipeError, UnknownNameError, WeightsError, reason
from close.io.keys import text_key
from close.io.places import place_of
from close.model.answers import LabelTree, label_scores
from close.model.draws import RowDraws
from close.model.modeling import CloseModel
from close.model.sets import Sets
from close.registry import unknown_name
from close.runs.candidates import (
    Rerank,
    by_cosine,
    check_candidates,
    check_search,
    closed_set,
    distinct,
    search_width,
    with_cosines,
)
from close.runs.confidence import Confidence, settings_of
from close.runs.outputs import Answer, Candidate
from close.runs.prompts import Prompter
from close.runs.searching import MemorySearch
from close.tasks import get_task
from close.vectors.open import same_weights

__all__ = ["Answerer", "Decode"]

_log = logging.getLogger(__name__)

Decode = Literal["tree", "score", "free"]
"""How an answer from a closed set is found: generated along a prefix tree, the likeliest of all, or generated freely."""

TREES = 8
"""Closed sets whose prefix trees are kept."""

_OF_A_CALL = ("boxes", "tiles", "frames", "batch_size", "min_confidence", "seed")
_OF_SCORING = ("answers", "limit", "metrics", "missing", "tokenizer", "top_answers", "vectors")
_SETTINGS = (*_OF_A_CALL, "n", "rerank", "labels", "decode", "normalise", *_OF_SCORING)
"""What a call, or an evaluation, takes beside transformers' settings of generation."""


class Answerer:
    """A model with its tokenizer and tasks, and the encoder whose vectors it reads.

    The encoder is loaded when it is first needed.
    """

    def __init__(self, model: CloseModel, tokenizer: Any, *, tasks: Sequence[str], name: str = "this model") -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.tasks = tuple(tasks)
        self.task = get_task(tasks[0])
        self.name, self.folder = name, Path(os.path.realpath(name))  # whatever the working directory becomes
        self.precision = "auto"
        self.without_context: set[str] = set()  # tasks that the run learnt from rows that had none
        self.lowercase = True  # it learnt its targets in lower case
        self.silent = False  # it says no confidence
        self.prompter = Prompter(tokenizer, model.context_room(model.generation_config.max_new_tokens or 0), model.kind)
        self._encoder: ContrastiveEncoder | None = None
        self.memory = MemorySearch(model, self.folder, lambda: self.encoder)
        self._confidence: dict[str, Confidence | None] = {}
        self._trees: dict[tuple[bool, *tuple[str, ...]], LabelTree] = {}
        self.one_at_a_time = RLock()
        """Threads that share it answer in turn: a tokenizer's settings, trees and torch's draws are one for all of them."""

    def use_task(self, name: str) -> Self:
        """Do this task from now on; where the run learnt several, its instruction tells the model which. Returns self.

        Raises:
            UnknownNameError: no such task.
        """
        self.task = get_task(name)
        return self

    @property
    def confidence(self) -> Confidence | None:
        """The run's calibration for the task, if it has one."""
        if self.silent:
            return None
        if self.task.name not in self._confidence:
            self._confidence[self.task.name] = Confidence.load(self.folder, self.task.name)
        return self._confidence[self.task.name]

    def without_confidence(self) -> None:
        """Answers carry none from now on, whatever is saved with the run."""
        self.silent = True

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
            self.use_encoder(self._own_encoder())
        assert self._encoder is not None
        return self._encoder

    def _own_encoder(self) -> ContrastiveEncoder:
        """Where the run says that it lies: beside the run, here, or on a hub.

        Raises:
            MissingError: it is not there; says what to do.
        """
        config = self.model.config
        place = place_of(config.encoder, self.folder)
        try:
            return load_encoder(place, device=self.model.device, precision=self.precision)
        except (MissingError, UnknownNameError) as error:
            raise MissingError(
                f"{self.name}: its encoder {config.encoder!r} (weights {config.encoder_fingerprint[:8]}) is not where it was; "
                f"say where it is: --encoder PLACE, in Python encoder=PLACE ({error})"
            ) from None

    def use_encoder(self, encoder: ContrastiveEncoder | str) -> None:
        """Take this encoder, if its weights are those of the run.

        Raises:
            MismatchError: they are not; names both.
        """
        if isinstance(encoder, str):
            encoder = load_encoder(encoder, device=self.model.device, precision=self.precision)
        config = self.model.config
        if not same_weights(encoder.fingerprint, config.encoder_fingerprint):
            raise MismatchError(
                f"{self.name} was trained with encoder {config.encoder!r} (weights {config.encoder_fingerprint[:8]}), not with "
                f"{encoder.name!r} (weights {encoder.fingerprint[:8]}): load it with the former"
            )
        self._encoder = encoder

    def answer(
        self,
        embeds: Tensor | Sets,
        contexts: Sequence[str],
        *,
        modality: Modality = "image",
        labels: Sequence[str] | None = None,
        decode: Decode | None = None,
        normalise: bool = False,
        n: int | None = None,
        rerank: Rerank | None = None,
        cosine: bool = False,
        search: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        **generation: Any,
    ) -> list[Answer]:
        """What the model says of items.

        Args:
            embeds: (B, D) unit rows, or items of several vectors.
            labels: the closed set of answers, none cut short; without it, the task's own if it has one.
            decode: "tree": generated, kept inside the labels. "score": every label's exact likelihood, the likeliest is
                said. "free": anything may come out. Without it, "tree" where there are labels, else "free".
            normalise: with "score", divide log-likelihoods by the labels' lengths in tokens.
            n: distinct candidates of each: the best that a search of at least `n` beams finds, the likeliest labels, or with
                do_sample `n` draws, repeated a few times where they do not differ.
            rerank: "clip" orders them, five without `n`, by the cosine of their own text vector with the embedding, and says
                the first.
            cosine: the answers carry theirs in any case.
            search: (B, D) unit rows to search the run's memory with, where that is done in another encoder.
            seeds: of each item, what its draws start from; without them, torch's generator goes on.
        Raises:
            RecipeError: no labels to choose from, or settings that do not go together.
            WeightsError: a score is NaN or infinite.
        """
        self._warn_of(contexts)
        items, contexts = self.memory.found(self._views(embeds), contexts, modality, search)
        given = None if labels is None else closed_set(labels)
        labels = self.task.labels if given is None else given
        how = self._way(labels, decode, normalise)
        wanted = check_candidates(n, rerank, generation)
        asked: dict[str, Any] = {"modality": modality, "normalise": normalise, "n": wanted, "rerank": rerank}
        sure = self._sure(how, labels=given, generation=generation, **asked)
        shares: Sequence[dict[str, float] | None] = [None] * len(items)
        if how == "score":
            if generation:
                raise RecipeError(f"decoding 'score' generates nothing; leave out {', '.join(generation)}")
            found, shares = self._scored(items, contexts, labels, modality, normalise, wanted or 1)
        else:
            closed = () if how == "free" else labels
            asked = {"modality": modality, "labels": closed, "seeds": seeds}
            found = self.candidates(items, contexts, wanted or 1, **asked, **generation)
        if rerank or cosine or (sure and sure.map.needs_cosine):
            found = with_cosines(found, items.main, self.encoder)
        found = by_cosine(found) if rerank else found
        answers = [
            Answer(own[0].text, own[0].score, share, own if wanted else (), own[0].cosine)
            for own, share in zip(found, shares, strict=True)
        ]
        return sure.of(self._finite(answers)) if sure else self._finite(answers)

    def _sure(self, how: Decode, **asked: Any) -> Confidence | None:
        """The calibration, where it was measured with these settings."""
        if (known := self.confidence) is None:
            return None
        settings = settings_of(self.model.generation_config, how, **asked) | self.memory.setting
        return known if known.fits(settings | {"precision": self.precision}, asked["labels"]) else None

    def _warn_of(self, contexts: Sequence[str]) -> None:
        """Say once that the run learnt the task from rows without contexts, where there are any."""
        if self.task.name in self.without_context and any(contexts):
            self.without_context.discard(self.task.name)
            said = "%s learnt %s without contexts: what one does to its answers is anybody's guess"
            _log.warning(said, self.name, self.task.name)

    def _views(self, embeds: Tensor | Sets) -> Sets:
        """Items, each of as many vectors as the task is about."""
        items = Sets.of(embeds)
        for count in sorted(items.counts) if self.model.config.several == "set" else ():
            self.task.check_views(count, f"{self.name}: vectors")
        return items

    def _way(self, labels: Sequence[str], decode: Decode | None, normalise: bool) -> Decode:
        how = decode or ("tree" if labels else "free")
        if how not in get_args(Decode):
            raise unknown_name("decoding", how, get_args(Decode))
        if how != "free" and not labels:
            raise RecipeError(f"decoding {how!r} needs a closed set of answers, and task {self.task.name!r} has none")
        if how != "score" and normalise:
            raise RecipeError(f"lengths are normalised where labels are scored (decoding 'score', not {how!r})")
        return how

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
        embeds: Tensor | Sets,
        contexts: Sequence[str],
        *,
        modality: Modality = "image",
        labels: Sequence[str] | None = None,
        search: Tensor | None = None,
        **generation: Any,
    ) -> list[tuple[str, float]]:
        """Text and score of each item, with what its memory has for it: the first of `candidates`."""
        items, contexts = self.memory.found(Sets.of(embeds), contexts, modality, search)
        found = self.candidates(items, contexts, modality=modality, labels=labels, **generation)
        return [(several[0].text, several[0].score) for several in found]

    def candidates(
        self,
        embeds: Tensor | Sets,
        contexts: Sequence[str],
        n: int = 1,
        *,
        modality: Modality = "image",
        labels: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        **generation: Any,
    ) -> list[tuple[Candidate, ...]]:
        """Up to `n` distinct texts and their scores of each item, the one that the search ranks highest first.

        Args:
            embeds: (B, D) unit rows, or items of several vectors, with what was found for them.
            labels: only these may come out (a prefix tree keeps generation among them). Without them, the task's own
                closed set if it has one; an empty list decodes freely. seeds: see `answer`.
        Raises:
            RecipeError: settings that would change nothing.
        """
        labels, tree = self.task.labels if labels is None else closed_set(labels), None
        if labels:
            tree, n = self._tree(tuple(labels)), min(n, len(labels))
            generation = {"prefix_allowed_tokens_fn": tree, **generation}
        generation = check_search(self.model.generation_config, generation, n)
        if tree:  # none is cut short
            generation["max_new_tokens"] = max(tree.longest, generation.get("max_new_tokens") or 0)
        samples, beams = search_width(self.model.generation_config, generation, n)
        if n > 1:
            generation["num_beams"] = beams
        several = beams if n > 1 and beams != 1 else n  # all that a search has found: some may be the same text

        items = Sets.of(embeds)

        def find(rows: Sequence[int], attempt: int) -> list[list[tuple[str, float]]]:
            asked = [contexts[row] for row in rows]
            own = [text_key(f"{seeds[row]} {attempt}") for row in rows] if seeds and samples else None
            with RowDraws(own) if own else nullcontext():
                flat = self._generated(items[rows], asked, modality, tree, num_return_sequences=several, **generation)
            return [flat[start : start + several] for start in range(0, len(flat), several)]

        return distinct(find, len(items), n, again=samples and n > 1)

    def _generated(
        self, items: Sets, contexts: Sequence[str], modality: Modality, tree: LabelTree | None, **generation: Any
    ) -> list[tuple[str, float]]:
        try:
            there = items.to(self.model.device)
            ids, scores = self.model.generate_scored(
                there.embeds, modality, **there.inputs, **self.prompts(contexts), **generation
            )
        except RuntimeError as error:  # of torch.multinomial
            if "probability tensor" not in str(error):
                raise
            raise self._not_finite("the next token's probabilities are NaN") from None
        except (ArithmeticError, TypeError, ValueError) as error:
            if isinstance(error, CloseError) or not _is_about_settings(error):
                raise
            if unused := re.search(r"`model_kwargs` are not used by the model: \['(\w+)'", str(error)):
                known = [*_SETTINGS, *self.model.generation_config.to_dict()]
                others = [name for name in known if name != unused[1]]  # which another call takes
                raise unknown_name("setting", unused[1], others) from None
            raise RecipeError(f"generation settings: {reason(error)}") from None
        end = generation.get("eos_token_id", self.model.generation_config.eos_token_id)
        return list(zip(self._texts(ids.tolist(), end, tree), scores.tolist(), strict=True))

    def _texts(self, ids: list[list[int]], end: Any, tree: LabelTree | None) -> list[str]:
        """What generated ids say before their end token, which a tokenizer need not count as special; of a tree, its labels."""
        ends, given = {end} if isinstance(end, int) else {*(end or ())}, self.model.kind.given
        said = [list(takewhile(lambda token: token not in ends, row[given:])) for row in ids]
        texts = [text.strip() for text in self.tokenizer.batch_decode(said, skip_special_tokens=True)]
        return [tree.label(row) or text for row, text in zip(ids, texts, strict=True)] if tree else texts

    def _lower(self, labels: Sequence[str]) -> bool:
        """Whether labels are learnt in lower case: not a task's own, where its targets are what it makes of them itself."""
        own = not self.task.teaches_texts and {*labels} <= {*self.task.labels}
        return self.lowercase and not own

    def _tree(self, labels: tuple[str, ...]) -> LabelTree:
        """The tree of labels; the last few are kept, the one asked for last at the end."""
        lower = self._lower(labels)
        tree = self._trees.pop((lower, *labels), None) or LabelTree(
            self.tokenizer, labels, self.model.kind, lowercase=lower
        )
        self._trees[lower, *labels] = tree
        if len(self._trees) > TREES:
            del self._trees[next(iter(self._trees))]
        return tree

    def _scored(
        self,
        items: Sets,
        contexts: Sequence[str],
        labels: Sequence[str],
        modality: Modality,
        normalise: bool,
        n: int,
    ) -> tuple[list[tuple[Candidate, ...]], list[dict[str, float] | None]]:
        """The `n` likeliest labels of each, and the probabilities of all."""
        scores = label_scores(
            self.model,
            self.tokenizer,
            items.to(self.model.device),
            labels,
            modality=modality,
            normalise=normalise,
            context=self.prompts(contexts),
            lowercase=self._lower(labels),
        )
        found, every = [], list[dict[str, float] | None]()
        for row, shares in zip(scores, scores.softmax(-1), strict=True):
            order = shares.argsort(descending=True, stable=True).tolist()
            found.append(tuple(Candidate(labels[i], float(row[i])) for i in order[:n]))
            every.append({labels[i]: float(shares[i]) for i in order})
        return found, every


def _is_about_settings(error: BaseException) -> bool:
    """Whether transformers' generation refused its settings; what is raised anywhere else is a fault, and stays one."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("transformers.generation")
