"""How fast a server may be asked, as it says in its headers."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Callable, Mapping

__all__ = ["LONGEST", "Limit", "retry_after"]


LONGEST = 3600.0
"""Seconds that anybody waits for a server."""


class Limit:
    """A limit per time that the server states in its headers (`x-ratelimit-*`), for requests or for tokens."""

    def __init__(self, kind: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kind, self._clock = kind, clock
        self._limit = self._remaining = float("inf")
        self._reset = 0.0

    def learn(self, headers: Mapping[str, str], on_the_way: float) -> None:
        """Take over what a response states, less what is on the way to the server."""
        limit = headers.get(f"x-ratelimit-limit-{self._kind}")
        if limit is None:
            return
        remaining = headers.get(f"x-ratelimit-remaining-{self._kind}", "")
        reset = _seconds(headers.get(f"x-ratelimit-reset-{self._kind}", ""))
        try:
            most, left = float(limit), float(remaining) - on_the_way
        except ValueError:
            return
        if not (0 < most < math.inf and abs(left) < math.inf):
            return
        self._limit, self._remaining = most, left
        self._reset = self._clock() + (60.0 if reset is None else min(reset, LONGEST))

    def delay(self, cost: float) -> float:
        """Seconds until `cost` may be spent; 0: now, and it is counted."""
        now = self._clock()
        if self._remaining < cost and now >= self._reset:
            self._remaining = self._limit
        if self._remaining < min(cost, self._limit):
            return self._reset - now
        self._remaining -= cost
        return 0.0


def _seconds(text: str) -> float | None:
    """Seconds of "1m30.5s", "120ms" or "20"."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd]|)", text)
    return sum(float(number) * units[unit] for number, unit in parts) if parts else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date."""
    try:
        in_ms = "retry-after-ms" in headers
        seconds = float(headers["retry-after-ms"]) / 1000 if in_ms else float(headers["retry-after"])
    except KeyError:
        return None
    except ValueError:
        try:
            seconds = email.utils.mktime_tz(email.utils.parsedate_tz(headers["retry-after"])) - time.time()  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError, KeyError):  # no date, or an impossible one
            return None
    return max(0.0, seconds) if abs(seconds) < math.inf else None
