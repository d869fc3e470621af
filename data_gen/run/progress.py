"""The figures of a run, and the line that shows them while it goes on."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Progress", "Summary"]


@dataclass
class Summary:
    """What came of a run, all its parts taken together.

    Attributes:
        accepted: rows in the file.
        rejected: rows that were not accepted, by reason.
        failed: requests without an answer.
        requests: all that were answered or failed.
        tokens_in, tokens_out: of prompts and answers.
        cost: in the currency of the prices.
        seconds: of this part.
    """

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**vars(self), "rejected": dict(self.rejected.most_common()), "seconds": round(self.seconds, 2)}

    def __str__(self) -> str:
        reasons = ", ".join(f"{name} {count}" for name, count in self.rejected.most_common())
        rejected = f"{self.rejected.total()} rejected" + (f" ({reasons})" if reasons else "")
        text = f"{self.accepted} accepted, {rejected}, {self.failed} failed, {self.tokens_in + self.tokens_out} tokens"
        return text + (f", cost {self.cost:.4f}" if self.cost else "")


class Progress:
    """One line on stderr: rewritten four times a second on a terminal, else a new one every 30 seconds."""

    def __init__(self, summary: Summary, count: int) -> None:
        self._summary, self._count = summary, count
        self._start, self._accepted_before = time.monotonic(), summary.accepted
        self._live = sys.stderr.isatty()
        self._next = self._start + (0.0 if self._live else 30.0)

    def show(self) -> None:
        """Show the line, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.25 if self._live else 30.0)
        print(
            ("\r\033[K" if self._live else "") + self._line(now),
            end="" if self._live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def _line(self, now: float) -> str:
        rate = (self._summary.accepted - self._accepted_before) / max(now - self._start, 1e-9)
        left = (self._count - self._summary.accepted) / rate if rate else 0.0
        time_left = (
            time.strftime("%H:%M:%S", time.gmtime(left))
            if rate and left < 86400
            else "more than a day"
            if rate
            else "?"
        )
        return f"{self._summary} · {rate:.1f}/s, {time_left} left"

    def close(self) -> None:
        """Leave the line."""
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
