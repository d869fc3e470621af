"""Mistakes in several places, told at once: whoever made four of them need not run four times to hear of all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from close.errors import CloseError, RecipeError, firsts

__all__ = ["MOST", "Slips", "SlipsError", "check_stages", "comma_told"]

_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")

MOST = 20
"""Mistakes that are told, of more how many there are."""


class SlipsError(RecipeError):
    """Several things are wrong.

    Attributes:
        each: what, a line each.
    """

    def __init__(self, message: object, each: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.each = tuple(each) or (str(self),)


class Slips:
    """Gathers what is wrong, and tells it together.

    Attributes:
        found: each mistake once, in order, by its words.
    """

    def __init__(self) -> None:
        self.found: dict[str, CloseError] = {}

    @contextmanager
    def kept(self, whose: str = "") -> Iterator[None]:
        """Keep a mistake that is found in here.

        Args:
            whose: what its message begins with; of a mistake that several make alike only the first is told.
        """
        try:
            yield
        except SlipsError as error:
            for line in error.each:
                self.found.setdefault(line.removeprefix(whose), RecipeError(line))
        except CloseError as error:
            self.found.setdefault(str(error).removeprefix(whose), error)

    def tell(self) -> None:
        """Say what was kept.

        Raises:
            CloseError: the only mistake, as it was raised. SlipsError: all of them.
        """
        if len(self.found) == 1:
            raise next(iter(self.found.values()))
        if self.found:
            lines = list(map(str, self.found.values()))
            raise SlipsError(firsts(lines, MOST), [*lines[:MOST], *_more(len(lines) - MOST)])


def _more(count: int) -> list[str]:
    return [f"… and {count} more"] if count > 0 else []


def check_stages(spec: Any, check: Callable[[Any], None]) -> None:
    """Look at each stage of an adapter's spec, so that several mistakes are told.

    Raises:
        ValueError: what is wrong, a line each.
    """
    from close.adapters.specs import leaves_of, refuse_endless

    slips = Slips()
    with slips.kept():
        refuse_endless(spec)
        for stage in leaves_of(spec):
            with slips.kept():
                check(stage)
    if slips.found:
        raise ValueError("\n".join(map(str, slips.found.values())))


def comma_told(value: Any) -> str:
    """What a message says of a number that is written with a comma; nothing of anything else."""
    is_one = isinstance(value, str) and _COMMA.fullmatch(value)
    return f" (a decimal point, not a comma: {value.replace(',', '.')})" if is_one else ""
