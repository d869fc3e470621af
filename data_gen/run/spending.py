"""What a run has taken, what it may take yet, and its budgets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from data_gen.client import Account, Prompt
from data_gen.run.progress import Summary
from data_gen.run.store import Answer
from data_gen.text.words import count_tokens
from data_gen.verbs import Options

__all__ = ["Key", "Most", "Spending"]

Key = tuple[int, ...]
"""What tells requests apart: the number of one, and of the judge's question about it. Lower ones come first."""
Most = tuple[float, float]
"""Tokens of prompts and of answers."""


class Spending(Account):
    """The account of a run. A budget holds against what came, what was lost, and the most that requests under way may take.

    Args:
        options: with the budgets and prices.
        summary: is kept up to date.
        write: puts a record into the journal.

    Attributes:
        unkept: tokens of tries that no record of the journal has yet.
        held: the most that requests under way may take yet, by key.
        waiting: which requests wait for others to leave room.
        answers: that took tokens; one that failed tells nothing of what one takes.
        tried: whether a try has ended, which shows what a server counts.
    """

    def __init__(self, options: Options, summary: Summary, write: Callable[[Mapping[str, Any]], None]) -> None:
        self.summary = summary
        self.budgeted = options.max_tokens is not None or options.max_cost is not None
        self.unkept = Counter[str]()
        self.held: dict[Key, Most] = {}
        self.waiting = set[Key]()
        self.answers = 0
        self.tried = False
        self._options, self._write = options, write
        self._excess = 0.0  # most tokens of a prompt beyond what its bytes tell
        self._seen: dict[int, Counter[str]] = {}  # tries that brought something, by the room that they had

    # ── what tries took ──────────────────────────────────────────────────────────────────────────────────────────

    def took(self, prompt: Prompt, tokens: Mapping[str, int]) -> None:
        """A try ended that took tokens."""
        counted = count_tokens(prompt.text)
        self._excess = max(self._excess, tokens["in"] - counted) if self._seen else tokens["in"] - counted
        self._seen.setdefault(prompt.max_tokens, Counter()).update({"tries": 1, "counted": counted, **tokens})
        self.unkept.update(tokens)
        self.tried = True

    def lost(self, prompt: Prompt) -> None:
        """A try ended without an answer. It took about what others did with as much room, else all that it may."""
        counted, seen = count_tokens(prompt.text), self._seen.get(prompt.max_tokens)
        tokens_in, tokens_out = float(counted), float(prompt.max_tokens)
        if seen:
            tokens_in, tokens_out = counted * seen["in"] / max(seen["counted"], 1), seen["out"] / seen["tries"]
        record = {"lost": 1, "tokens_in": math.ceil(tokens_in), "tokens_out": math.ceil(tokens_out)}
        self.tried = True
        self.count(record)
        self._write(record)

    def count(self, record: Answer | Mapping[str, Any]) -> None:
        """Count what a record of the journal took: an answer, or a try without one (`lost` 0: of what was given up)."""
        summary, options = self.summary, self._options
        if isinstance(record, Answer):
            summary.requests += 1
            self.answers += record.tokens_in + record.tokens_out > 0
            tokens_in, tokens_out = record.tokens_in, record.tokens_out
        else:
            tokens_in, tokens_out = record["tokens_in"], record["tokens_out"]
        if not isinstance(record, Answer) and record["lost"]:
            summary.lost += record["lost"]
            summary.lost_in += tokens_in
            summary.lost_out += tokens_out
        else:
            summary.tokens_in += tokens_in
            summary.tokens_out += tokens_out
        summary.cost = (summary.tokens_in * options.price_in + summary.tokens_out * options.price_out) / 1e6
        summary.lost_cost = (summary.lost_in * options.price_in + summary.lost_out * options.price_out) / 1e6

    def kept(self, answer: Answer) -> None:
        """An answer is in the journal, with all its tries."""
        self.unkept.subtract({"in": answer.tokens_in, "out": answer.tokens_out})

    def give_up(self) -> None:
        """Put into the journal what requests took that are not answered any more."""
        if self.unkept.total() > 0:
            record = {"lost": 0, "tokens_in": self.unkept["in"], "tokens_out": self.unkept["out"]}
            self.unkept.clear()
            self.count(record)
            self._write(record)

    # ── what may be taken ────────────────────────────────────────────────────────────────────────────────────────

    def most(self, prompt: Prompt) -> Most:
        """What a try takes at most."""
        return count_tokens(prompt.text) + self._excess, float(prompt.max_tokens)

    def most_of(self, asked: int, tokens_in: float, tokens_out: float) -> Most:
        """What a request takes at most, of which `Plan.takes` says the rest."""
        return tokens_in + asked * self._excess, tokens_out

    def fits(self, *more: Most, held: bool = True) -> bool:
        """Whether these fit the budgets too, beside what requests under way may take where `held`."""
        summary, options = self.summary, self._options
        ins, outs = zip((0.0, 0.0), *more, *(self.held.values() if held else ()), strict=True)
        tokens_in: float = summary.tokens_in + summary.lost_in + self.unkept["in"] + sum(ins)
        tokens_out: float = summary.tokens_out + summary.lost_out + self.unkept["out"] + sum(outs)
        tokens = tokens_in + tokens_out
        cost = (tokens_in * options.price_in + tokens_out * options.price_out) / 1e6
        return tokens <= (options.max_tokens or tokens) and cost <= (options.max_cost or cost)

    def may_try(self) -> bool:
        """Whether requests under way may all be tried once more."""
        return self.fits()

    def average(self) -> Most | None:
        """What answers took on average, with all tries."""
        if not self.answers:
            return None
        return self.summary.tokens_in / self.answers, self.summary.tokens_out / self.answers
