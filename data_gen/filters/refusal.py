"""What a model says in place of the text that it was asked for."""

from __future__ import annotations

from data_gen.filters.base import Candidate, Filter
from data_gen.text.thoughts import is_chat

__all__ = ["Refusal"]


class Refusal(Filter):
    """A refusal or a phrase of a chat ("Sure, here is …") in place of the text."""

    name = "refusal"

    def rejects(self, candidate: Candidate) -> bool:
        return is_chat(candidate.text)
