"""What is sent to a server, what comes back, and what may go wrong with one request."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Account", "PausedError", "Prompt", "Reply", "RequestError", "RetryError", "dumped", "error_message"]


class RequestError(Exception):
    """This request got no usable answer; others may.

    Args:
        reason: why.
        raw: what came.
        final: asking again is of no use.
        status, body: of an error that came as an answer; 0 where it is none that is known.
        took: tokens "in" and "out" of what came all the same.
        lost: something may have been made that did not come whole, so that nobody knows what it took.
    """

    def __init__(
        self,
        reason: str,
        raw: str = "",
        *,
        final: bool = False,
        status: int = 0,
        body: object = None,
        took: Mapping[str, int] | None = None,
        lost: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.raw, self.final, self.lost = reason, raw, final, lost
        self.status, self.body, self.took = status, body, Counter(took)


class PausedError(RequestError):
    """The request may be tried again, but not now: the account has no room for another try."""


@dataclass(frozen=True)
class Prompt:
    """What is sent: the text, the limit of the answer in tokens, the model's seed, and a JSON schema or stop strings."""

    text: str
    max_tokens: int
    seed: int
    schema: dict[str, Any] | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What came back, and what it took; `cut`: why it is not whole, if it is not.

    Where the server counts no tokens, or none of a text, four bytes are taken for one.
    """

    text: str
    model: str
    tokens_in: int
    tokens_out: int
    cut: str = ""

    @property
    def took(self) -> Counter[str]:
        """Tokens "in" and "out"."""
        return Counter({"in": self.tokens_in, "out": self.tokens_out})


class RetryError(Exception):
    """A try that may be repeated; `took` and `lost` as of `RequestError`."""

    def __init__(
        self,
        reason: str,
        *,
        raw: str = "",
        delay: float | None = None,
        unreachable: bool = False,
        limited: bool = False,
        took: Mapping[str, int] | None = None,
        lost: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason, self.raw, self.delay, self.lost = reason, raw, delay, lost
        self.unreachable, self.limited, self.took = unreachable, limited, Counter(took)


class Account:
    """Is told what each try takes when it ends. This one keeps nothing, and allows everything."""

    def took(self, prompt: Prompt, tokens: Mapping[str, int]) -> None:
        """A try took these tokens, "in" and "out"."""

    def lost(self, prompt: Prompt) -> None:
        """A try was sent and ended without a whole answer: what it took is not known."""

    def may_try(self) -> bool:
        """Whether there is room for another try, after one that took something."""
        return True


def error_message(body: object) -> str:
    """The text in an error's body, however it is wrapped."""
    while isinstance(body, Mapping) and (
        inner := next((body[k] for k in ("error", "message", "detail") if body.get(k)), None)
    ):
        body = inner
    return body if isinstance(body, str) else dumped(body)


def dumped(value: object) -> str:
    """A value that a server sent, as text."""
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):  # deeper than can be written
        return f"a {type(value).__name__}"
