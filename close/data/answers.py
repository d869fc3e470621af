"""Which of ten annotators' answers are worth learning."""

from __future__ import annotations

from collections import Counter

__all__ = ["answers_to_learn"]


def answers_to_learn(answers: tuple[str, ...]) -> tuple[str, ...]:
    """The commonest answer, its ties, and every answer given at least 3 times (CLOSE, ICCV 2023)."""
    counts = Counter(answer.lower() for answer in answers)
    best = max(counts.values())
    return tuple(answer for answer, count in counts.items() if count == best or count >= 3)
