"""`CLOSE_FAST=0` in the environment turns every fast path off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["VARIABLE", "is_allowed", "turned_off"]

VARIABLE = "CLOSE_FAST"


def is_allowed() -> bool:
    """Whether fast paths may be taken at all: not with `CLOSE_FAST=0` in the environment."""
    return os.environ.get(VARIABLE, "1").strip().lower() not in ("0", "off", "no", "false")


@contextmanager
def turned_off() -> Iterator[None]:
    """A block of this process without fast paths."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
