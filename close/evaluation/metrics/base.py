"""What a metric says of itself, and the registry that scores, pages, tables and sweeps are made from.

A metric is declared once, beside what computes it:

    @METRICS.register(Metric("words", "caption", (Score("words", "Words"),)))
    def words(inputs: Inputs) -> dict[str, SummedScore]:
        return {"words": mean_score([len(inputs.predictions[key].split()) for key in inputs.ids])}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from close.errors import MissingError, RecipeError
from close.evaluation.bootstrap import SummedScore
from close.evaluation.metrics.tokens import TOKENIZERS, Tokens
from close.evaluation.metrics.words import composed
from close.registry import Registry, unknown_name

if TYPE_CHECKING:
    from close.data.rows import Row
    from close.encoders import ContrastiveEncoder

__all__ = ["METRICS", "Inputs", "Metric", "Score", "compute"]


@dataclass
class Inputs:
    """What a metric is given.

    Attributes:
        ids: of the N examples, in the order of all that comes out.
        predictions: id to text. references: id to captions, to a `VqaReference`, or to the true label.
        tokenizer: "java", "python" or "unicode", of `tokens`.
        rows: id to row, where they are at hand. encoder: the run's, where a run is scored.
        image_vectors: ids to (N, D) vectors of their images, where a run is scored; of an image that could not be read, whose
            prediction is blank, there is none.
        found: what `once` has computed, by name.
    """

    ids: Sequence[str]
    predictions: Mapping[str, str]
    references: Mapping[str, Any]
    tokenizer: str = "python"
    rows: Mapping[str, Row] | None = None
    encoder: ContrastiveEncoder | None = None
    image_vectors: Callable[[Sequence[str]], NDArray[Any]] | None = None
    found: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """What several metrics are made of, computed when the first of them asks."""
        if name not in self.found:
            self.found[name] = compute()
        return self.found[name]

    @cached_property
    def tokens(self) -> tuple[Tokens, Tokens]:
        """Tokens of the references and of the predictions, parted by spaces; a letter and its marks count as one (NFC)."""
        tokenize = TOKENIZERS[self.tokenizer]
        return (
            tokenize({i: [composed(text) for text in self.references[i]] for i in self.ids}),
            tokenize({i: [composed(self.predictions[i])] for i in self.ids}),
        )


@dataclass(frozen=True)
class Score:
    """One number that a metric yields.

    Attributes:
        key: in JSON. label: on pages.
        scale: lowest and highest value; None is open (CIDEr can pass 100).
        higher_is_better: or the other way round.
        headline: sweeps report it.
        digits: after the point on pages and in tables; the command line shows one more.
        single: whether each example has one; else it is of all of them together.
    """

    key: str
    label: str
    scale: tuple[float, float | None] = (0, 100)
    higher_is_better: bool = True
    headline: bool = False
    digits: int = 1
    single: bool = True


def _always(inputs: Inputs) -> bool:
    return True


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: on the command line. kind: of the tasks that it scores (`Task.metric`): caption, vqa, entailment, or one's own.
        scores: what it yields that has an interval; a metric may yield plain values only.
        primary: its first score is the one that this kind of task is known by.
        default: made unless others are asked for.
        needs: "java" is left out of a run's evaluation unless asked for. "encoder": it looks at a run's pictures.
        applies: whether these inputs have what it needs. automatic: made wherever it applies, whatever was asked for.
        source: the paper.
        function: set by `register`: from inputs to scores by key; plain values go into the JSON without an interval,
            and `notes`, a mapping, says what to know of a score.
    """

    name: str
    kind: str
    scores: tuple[Score, ...]
    primary: bool = False
    default: bool = False
    needs: tuple[Literal["java", "encoder"], ...] = ()
    applies: Callable[[Inputs], bool] = _always
    automatic: bool = False
    source: str = ""
    function: Callable[[Inputs], Mapping[str, Any]] | None = None


class Metrics:
    """All metrics by name."""

    def __init__(self) -> None:
        self._metrics: Registry[Metric] = Registry("metric")
        self._order: list[str] = []

    @property
    def origins(self) -> Mapping[str, str]:
        """Name to the plug-in that brought it."""
        return self._metrics.origins

    def register(self, metric: Metric) -> Callable[[Callable[[Inputs], Mapping[str, Any]]], Any]:
        """Decorator of the function that computes a metric.

        It raises MissingError, with the reason, where a program that it needs is not there: the others are still made.

        Raises:
            ValueError: the name is taken, or its kind of task has a primary metric already.
        """
        if metric.primary and any(other.primary and other.kind == metric.kind for other in self):
            raise ValueError(f"metric {metric.name!r}: {metric.kind} has a primary metric already")

        def put(function: Callable[[Inputs], Mapping[str, Any]]) -> Any:
            self._metrics.register(metric.name)(replace(metric, function=function))
            self._order.append(metric.name)
            return function

        return put

    def __getitem__(self, name: str) -> Metric:
        return self._metrics[name]

    def __iter__(self) -> Iterator[Metric]:
        """The primary ones first, the others in the order of registration."""
        return iter(sorted((self._metrics[name] for name in self._order), key=lambda metric: not metric.primary))

    @property
    def kinds(self) -> list[str]:
        """The kinds of tasks that can be scored."""
        return list(dict.fromkeys(self._metrics[name].kind for name in self._order))

    def of(self, kind: str) -> list[Metric]:
        """Those of a kind of task, in the order of registration."""
        return [metric for metric in map(self._metrics.__getitem__, self._order) if metric.kind == kind]

    def defaults(self, kind: str, *, java: bool = True) -> tuple[str, ...]:
        """Names of what is made unless others are asked for; without Java's where `java` is False."""
        return tuple(m.name for m in self.of(kind) if m.default and (java or "java" not in m.needs))

    def chosen(self, kind: str, asked: str | Iterable[str] | None, *, java: bool = True) -> tuple[str, ...]:
        """Those that are asked for, one alone or several, or `defaults`."""
        if asked is None:
            return self.defaults(kind, java=java)
        return (asked,) if isinstance(asked, str) else tuple(asked)

    def primary(self, kind: str) -> str:
        """The score that a kind of task is known by: of its primary metric, else of one that is made by default, else of any.

        Raises:
            UnknownNameError: no such kind of task, or it has no score.
        """
        found = self._known_by(kind)
        if found is None:
            raise unknown_name("task", kind, [kind for kind in self.kinds if self._known_by(kind)])
        return found

    def shown(self, kind: str, have: Collection[str]) -> str | None:
        """Of the scores that there are, the one that a kind of task is known by, or else the first; None of none."""
        known = self._known_by(kind)
        return known if known in have else next(iter(have), None)

    def _known_by(self, kind: str) -> str | None:
        found = sorted(self.of(kind), key=lambda metric: (not metric.primary, not metric.default))
        return next((metric.scores[0].key for metric in found if metric.scores), None)

    def score(self, key: str) -> Score:
        """What a score says of itself; of one that nothing is known of, that more is better, on no scale."""
        return next((score for score in self.scores() if score.key == key), Score(key, key, scale=(-math.inf, None)))

    def higher_is_better(self, key: str) -> bool:
        """Of a score, or whether it is the other way round."""
        return self.score(key).higher_is_better

    def sign(self, key: str) -> int:
        """What a score is multiplied by so that more of it is better: 1 or -1."""
        return 1 if self.higher_is_better(key) else -1

    def digits(self, key: str) -> int:
        """Digits after the point of a score, on pages and in tables."""
        return self.score(key).digits

    @property
    def labels(self) -> dict[str, str]:
        """Key to label of every score."""
        return {score.key: score.label for score in self.scores()}

    def scores(self) -> list[Score]:
        """Every score, each key once; the primary ones first."""
        return list({score.key: score for metric in self for score in metric.scores}.values())


METRICS = Metrics()


def compute(
    kind: str, names: Sequence[str], inputs: Inputs
) -> tuple[dict[str, SummedScore], dict[str, Any], dict[str, str]]:
    """Metrics of a kind of task, and those that come by themselves.

    Returns:
        Scores over examples by key, in the order of registration; plain values by key; by name why a metric was not made,
        or what to know of it.
    Raises:
        UnknownNameError: no such metric. RecipeError: it is of another kind of task.
    """
    for name in names:
        if METRICS[name].kind != kind:
            raise RecipeError(f"metric {name!r} scores {METRICS[name].kind}, not {kind}")
    summed: dict[str, SummedScore] = {}
    values: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for metric in METRICS.of(kind):
        if metric.function is None or not (metric.name in names or (metric.automatic and metric.applies(inputs))):
            continue
        if not metric.applies(inputs):
            notes[metric.name] = "the rows do not have what it needs"
            continue
        try:
            found = metric.function(inputs)
        except MissingError as error:
            notes[metric.name] = str(error)
            continue
        found = dict(found)
        notes |= found.pop("notes", {})
        for key in [key for key, value in found.items() if isinstance(value, SummedScore)]:
            summed[key], note = _on_its_scale(key, found[key])
            notes |= {key: note} if note else {}
        values |= {key: value for key, value in found.items() if not isinstance(value, SummedScore)}
    return summed, values, notes


def _on_its_scale(key: str, found: SummedScore) -> tuple[SummedScore, str]:
    """A score with the scale that it declares; if it has values beyond that, with none, as intervals end there, and a note."""
    low, high = scale = METRICS.score(key).scale
    every = np.append(found.per_example, found.value)
    least, most = np.nanmin(every, initial=math.inf), np.nanmax(every, initial=-math.inf)
    if least >= low - 1e-6 and (high is None or most <= high + 1e-6):
        return replace(found, scale=scale), ""
    ends = f"from {low:g}" + ("" if high is None else f" to {high:g}")
    note = f"has values from {least:g} to {most:g}, and its scale is {ends}; declare another: Score({key!r}, …, scale=(0, None))"
    return replace(found, scale=(-math.inf, None)), note
