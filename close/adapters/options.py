"""Checks of adapters' options."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from close.errors import RecipeError
from close.registry import unknown_name

__all__ = ["choice", "exactly_one", "number", "whole_number"]


def number(adapter: str, option: str, value: Any, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high].

    Raises:
        RecipeError: it is none; names the adapter, the option, the range and the value.
    """
    plain = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not plain or not low <= value <= high:
        limits = f" ≥ {low:g}" * (low > -math.inf) + " and" * (-math.inf < low and high < math.inf)
        raise RecipeError(
            f"{adapter}: {option} is a number{limits}" + f" ≤ {high:g}" * (high < math.inf) + f", not {value!r}"
        )
    return float(value)


def whole_number(adapter: str, option: str, value: Any, *, low: int = 0, high: int = 2**63 - 1) -> int:
    """A whole number in [low, high]; without limits, what torch takes as a seed.

    Raises:
        RecipeError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RecipeError(f"{adapter}: {option} is a whole number ≥ {low} and ≤ {high}, not {value!r}")
    return value


def choice(adapter: str, option: str, value: Any, known: Sequence[str]) -> str:
    """One of the known words.

    Raises:
        RecipeError: it is none of them; tells the nearest.
    """
    if value not in known:
        raise RecipeError(f"{adapter}: {unknown_name(option, str(value), known)}")
    return str(value)


def exactly_one(adapter: str, example: str, **options: Any) -> tuple[str, Any]:
    """The one option that is given (not None), as (name, value).

    Raises:
        RecipeError: none or several are given.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if len(given) != 1:
        raise RecipeError(f"{adapter} takes exactly one of {', '.join(options)}, not {given or 'none'}: e.g. {example}")
    return next(iter(given.items()))
