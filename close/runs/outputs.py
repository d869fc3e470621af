"""What a run says of one item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

__all__ = ["Answer", "Output"]


class Answer(NamedTuple):
    """What the model says of one embedding.

    Attributes:
        text: the output.
        score: how sure the model is: the mean log-probability of the text's tokens (with beams, of the best beam). 0 is certain,
            exp(score) the mean probability of a token (−0.1: 90 %). It ranks outputs of one run, and says nothing of truth.
            Of a scored label, its log-likelihood.
        probabilities: of every label, likeliest first, where labels were scored.
    """

    text: str
    score: float
    probabilities: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What the model says of one item; `str(output)` is the text.

    Attributes:
        text: the output; empty where there is an error.
        score: the mean log-probability of the text's tokens, 0 at best; see `Answer`. NaN where there is an error.
        item: the file's name; of what has none, its kind, number and size: `Image 2 (640×480)`.
        error: why there is no text.
        probabilities: of every label, likeliest first, where labels were scored (`decode="score"`).
    """

    text: str
    score: float
    item: str
    error: str | None = None
    probabilities: Mapping[str, float] | None = None

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        return values if self.probabilities else {key: values[key] for key in values if key != "probabilities"}
