"""What a measure says of itself, and the registry that reports, tables and pages are made from.

A measure is declared once, beside what computes it:

    @MEASURES.register(Measure("trace_ratio", Family.CLOUDS, "Trace ratio", "√(Tr Σ_v/Tr Σ_t)", "0.9–1.1", 0.9, 1.1))
    def _trace_ratio(data: Modalities, seed: int) -> float:
        return trace_ratio(*data.moments)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from close.gap.modalities import Modalities
from close.gap.resample import Resample
from close.registry import Registry
from close.vectors.checked import Floats

__all__ = ["MEASURES", "Computation", "Family", "Interval", "Measure"]

RESERVED = ("n_text", "n_image", "dim", "intervals", "notes", "cases")


class Family(StrEnum):
    """Headings that measures stand under, in their order; a measure may bring a heading of its own, which comes after these."""

    DISTANCE = "How far apart"
    VECTOR = "The gap as a vector"
    RESIDUAL = "What a shift leaves over"
    CLOUDS = "The two clouds"
    STRUCTURE = "Order and structure"


@dataclass(frozen=True)
class Interval:
    """How a measure's bootstrap interval is made.

    Attributes:
        draws: from a batch of B resamples to the measure's (B,) values.
        square: move the square of the value, which is what resampling shifts by a constant, not the value.
        bounds: the ends that the interval is kept within.
        needs_pairs: none where texts and images are not paired.
    """

    draws: Callable[[Resample], Floats]
    square: bool = False
    bounds: tuple[float, float] | None = None
    needs_pairs: bool = False


@dataclass(frozen=True)
class Measure:
    """One number of a gap report.

    Attributes:
        name: its place in the JSON, dotted.
        family: the heading it stands under.
        title: a few words; two spaces before them set it below the measure before.
        meaning: the formula or the question it answers, in a line.
        healthy: what is healthy, in words.
        low, high: the healthy range where there is one; None is open.
        scale: the values that a scale of it shows, lowest and highest; None where it has none.
        interval: how it gets a 95 % interval; None for none.
        sample: exact where empty; else of what a sample is taken when there are too many: texts, images, or paired images.
        asked_by: of which modality its queries are (0: texts, 1: images), where it looks for neighbours in the other one.
        few: what it is biased on when there are fewer than 4 D of them, and whether it reads high or low then.
        remark: what to note of a value, or "". caveat: what to note of the data that it is made of, or "".
        source: the paper, or "elementary".
        misleads: a case in which it tells something else than it seems to.
    """

    name: str
    family: str
    title: str
    meaning: str
    healthy: str
    low: float | None = None
    high: float | None = None
    scale: tuple[float, float] | None = None
    interval: Interval | None = None
    sample: tuple[Literal["text", "image", "pairs"], ...] = ()
    asked_by: Literal[0, 1] | None = None
    few: tuple[Literal["rows", "pairs"], Literal["high", "low"]] | None = None
    remark: Callable[[float], str] | None = None
    caveat: Callable[[Modalities], str] | None = None
    source: str = ""
    misleads: str = ""

    @property
    def has_range(self) -> bool:
        """Whether a value can be called healthy or not at all."""
        return self.low is not None or self.high is not None

    def is_healthy(self, value: float) -> bool:
        """Whether the value lies in the healthy range."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


Function = Callable[[Modalities, int], float | Mapping[str, float]]


@dataclass(frozen=True)
class Computation:
    """Measures that are computed together."""

    measures: tuple[Measure, ...]
    function: Function

    def __call__(self, data: Modalities, seed: int) -> dict[str, float]:
        """Each measure's value by its name."""
        found = self.function(data, seed)
        if not isinstance(found, Mapping):
            (measure,) = self.measures
            return {measure.name: float(found)}
        return {measure.name: float(found[measure.name.rpartition(".")[2]]) for measure in self.measures}


class Measures:
    """All measures by name, and what computes them."""

    def __init__(self) -> None:
        self.computations: list[Computation] = []
        self._measures: Registry[Measure] = Registry("measure")

    def register(self, *measures: Measure) -> Callable[[Function], Function]:
        """Decorator of the function that computes these measures.

        It is given the data and a seed, and returns a number, or for several measures a mapping from the last part of each name.
        What is sampled is drawn before: the data hold no more rows, or pairs, than the limit. It raises DataError with the
        reason where the data do not have what it needs.

        Raises:
            ValueError: a name is taken, or stands where another one has parts; or only some of the measures take a sample.
        """

        def put(function: Function) -> Function:
            if len({measure.sample for measure in measures}) != 1:
                raise ValueError(
                    f"{[measure.name for measure in measures]} are computed together: give them one sample"
                )
            for measure in measures:
                self._check(measure.name)
            for measure in measures:
                self._measures.register(measure.name)(measure)
            self.computations.append(Computation(measures, function))
            return function

        return put

    def _check(self, name: str) -> None:
        taken = [*RESERVED, *self._measures]
        clash = next(
            (other for other in taken if f"{name}.".startswith(f"{other}.") or other.startswith(f"{name}.")), None
        )
        if clash:
            raise ValueError(f"measure {name!r}: the report has {clash!r} there already")

    def __getitem__(self, name: str) -> Measure:
        return self._measures[name]

    def __len__(self) -> int:
        return len(self._measures)

    def __iter__(self) -> Iterator[Measure]:
        """By family, and in a family in the order of registration."""
        every = [measure for computation in self.computations for measure in computation.measures]
        order = dict.fromkeys([*Family, *(measure.family for measure in every)])
        place = {str(family): number for number, family in enumerate(order)}
        return iter(sorted(every, key=lambda measure: place[str(measure.family)]))

    @property
    def names(self) -> list[str]:
        """In the same order."""
        return [measure.name for measure in self]


MEASURES = Measures()
