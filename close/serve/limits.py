"""What a server takes at most, and how it says no."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from close.errors import CloseError, RecipeError

__all__ = ["Limits", "RefusedError"]


@dataclass(frozen=True)
class Limits:
    """Of one server.

    Attributes:
        batch_size: items that are answered together. window: seconds that the first of a batch waits for others.
        queue: items that may be there at once, those at work included; what comes above it is refused (503).
        seconds: for an answer, from its request's end on. upload: seconds for a request to come in.
        bytes: of a request. held: bytes of all requests together. items: pictures or texts of a request.
        candidates: candidates and beams. labels: of a request. characters: of a text. label_characters: of all labels of a
            request, each counted as long as the longest, which is the room that it takes.
        pixels: of a picture, counted before it is decoded.
    Raises:
        RecipeError: one of them is no finite number above 0.
    """

    batch_size: int = 32
    window: float = 0.005
    queue: int = 256
    seconds: float = 60.0
    upload: float = 30.0
    bytes: int = 32 * 2**20
    held: int = 512 * 2**20
    items: int = 64
    candidates: int = 20
    labels: int = 1000
    characters: int = 10_000
    label_characters: int = 100_000
    pixels: int = 50_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise RecipeError(
                    f"a server's {field.name} is a finite number above 0, not {getattr(self, field.name)!r}"
                )


class RefusedError(CloseError):
    """A request that gets no answer, and why.

    Args:
        status: of HTTP. message: one line. again: seconds after which it may be tried again.
    """

    def __init__(self, status: int, message: str, *, again: int | None = None) -> None:
        super().__init__(message)
        self.status, self.again = status, again

    @property
    def headers(self) -> dict[str, str]:
        """What is sent beside the message."""
        found = {} if self.again is None else {"Retry-After": str(self.again)}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})
