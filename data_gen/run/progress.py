"""The figures of a run, and the line that shows them while it goes on."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from data_gen.errors import written

__all__ = ["Progress", "Summary", "note"]


@dataclass
class Summary:
    """What came of a run, all its parts taken together.

    Attributes:
        accepted: rows in the file.
        rejected: rows that were not accepted, by reason.
        mended: answers whose JSON was broken, and mended.
        failed: requests without an answer.
        requests: all that were answered or failed.
        tokens_in, tokens_out: of prompts and answers.
        cost: in the currency of the prices.
        lost: tries that ended without an answer: in time, on the way, or since the run did. What they took is not known.
        lost_in, lost_out, lost_cost: about what they took, which is not among the others.
        seconds: of this part.
    """

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    mended: int = 0
    failed: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    lost: int = 0
    lost_in: int = 0
    lost_out: int = 0
    lost_cost: float = 0.0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**vars(self), "rejected": dict(self.rejected.most_common()), "seconds": round(self.seconds, 2)}

    def __str__(self) -> str:
        return f"{self.accepted} accepted, {self.rest}"

    @property
    def rest(self) -> str:
        """What is no accepted row, and what it took."""
        reasons = ", ".join(f"{name} {count}" for name, count in self.rejected.most_common())
        rejected = f"{self.rejected.total()} rejected" + (f" ({reasons})" if reasons else "")
        mended = f"{self.mended} mended, " if self.mended else ""
        text = f"{rejected}, {mended}{self.failed} failed, {self.tokens_in + self.tokens_out} tokens"
        text += f", cost {self.cost:.4f}" if self.cost else ""
        if not self.lost:
            return text
        tries = f"{self.lost} tries that ended" if self.lost > 1 else "a try that ended"
        text += f", and about {self.lost_in + self.lost_out} tokens of {tries} without an answer"
        return text + (f" (cost {self.lost_cost:.4f})" if self.lost_cost else "")


def note(text: str) -> None:
    """A line on stderr that the progress line does not run into."""
    from tqdm import tqdm

    line = f"note: {written(text)}"
    if sys.stderr.isatty():
        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr)


class Progress:
    """A line on stderr: rows, rate, time left. Where stderr is no terminal, it comes after half a minute, and then as often.

    Args:
        summary: of the run, read whenever the line is shown.
        count: rows that the run ends with.
    """

    def __init__(self, summary: Summary, count: int) -> None:
        from tqdm import tqdm

        live = sys.stderr.isatty()
        pause = 0.25 if live else 30.0
        with suppress(ValueError):
            pause = float(os.environ.get("TQDM_MININTERVAL") or pause)
        self._summary = summary
        self._bar = tqdm(
            total=count,
            initial=summary.accepted,
            unit=" rows",
            smoothing=0,  # rows come in bursts: the rate is that of the whole run
            mininterval=pause,
            delay=0 if live else pause,
            dynamic_ncols=True,
            leave=False,
        )

    def show(self) -> None:
        """Show the line, if it is time."""
        self._bar.set_postfix_str(self._summary.rest, refresh=False)
        self._bar.update(self._summary.accepted - self._bar.n)

    def close(self) -> None:
        """Take the line away."""
        self._bar.close()
