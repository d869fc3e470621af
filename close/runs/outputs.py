"""What a run says of one item."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Answer", "Candidate", "Output"]


class Candidate(NamedTuple):
    """One of several texts for one item.

    Attributes:
        text, score: as of `Answer`.
        cosine: of the text's own vector with the item's, where candidates were ranked by it; None of an empty text.
    """

    text: str
    score: float
    cosine: float | None = None


class Answer(NamedTuple):
    """What the model says of one embedding.

    Attributes:
        text: the output.
        score: how sure the model is: the mean log-probability of the text's tokens (with beams, of the best beam). 0 is certain,
            exp(score) the mean probability of a token (−0.1: 90 %). It ranks outputs of one run, and says nothing of truth.
            Of a scored label, its log-likelihood.
        probabilities: of every label, likeliest first, where labels were scored.
        candidates: distinct, best first, the text among them, where `n` or `rerank` asks for them; fewer than `n` where no more
            were found.
        cosine: of the text's own vector with the item's, where it was asked for or confidence reads it.
        confidence: the share of such outputs that is right, 0 to 1, where the run is calibrated (`close calibrate`).
    """

    text: str
    score: float
    probabilities: dict[str, float] | None = None
    candidates: tuple[Candidate, ...] = ()
    cosine: float | None = None
    confidence: float | None = None

    @property
    def likelihood(self) -> float:
        """What confidence reads: the score, or of scored labels the logarithm of the text's probability among them."""
        return self.score if self.probabilities is None else math.log(max(self.probabilities[self.text], 1e-30))


@dataclass(frozen=True, slots=True)
class Output:
    """What the model says of one item; `str(output)` is the text.

    Attributes:
        text: the output; empty where there is an error.
        score: the mean log-probability of the text's tokens, 0 at best; see `Answer`. NaN where there is an error.
        item: the file's name; of what has none, its kind, number and size: `Image 2 (640×480)`.
        error: why there is no text.
        probabilities: of every label, likeliest first, where labels were scored (`decode="score"`).
        candidates: distinct, best first, `text` among them, where `n` or `rerank` asks for them; fewer than `n` where no more
            were found.
        confidence: the share of such outputs that is right, 0 to 1, where the run is calibrated (`close calibrate`).
        left_out: its confidence is below `min_confidence`: the text is empty, and what it would have been is the first candidate.
    """

    text: str
    score: float
    item: str
    error: str | None = None
    probabilities: Mapping[str, float] | None = None
    candidates: tuple[Candidate, ...] = ()
    confidence: float | None = None
    left_out: bool = False

    @classmethod
    def of(cls, answer: Answer, item: str, min_confidence: float | None = None) -> Output:
        """An answer about an item."""
        about = (item, None, answer.probabilities)
        if min_confidence is None or answer.confidence is None or answer.confidence >= min_confidence:
            return cls(answer.text, answer.score, *about, answer.candidates, answer.confidence)
        hidden = answer.candidates or (Candidate(answer.text, answer.score, answer.cosine),)
        return cls("", answer.score, *about, hidden, answer.confidence, left_out=True)

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values: dict[str, Any] = {"text": self.text, "score": self.score, "item": self.item, "error": self.error}
        if self.probabilities:
            values["probabilities"] = dict(self.probabilities)
        if self.confidence is not None:
            values |= {"confidence": self.confidence, "left_out": self.left_out}
        if self.candidates:
            values["candidates"] = [candidate._asdict() for candidate in self.candidates]
        return values
