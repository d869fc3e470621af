"""The errors that users are told about.

Every one is a single clear line: what, where, what was expected, how to fix. The command line prints it and exits with 1.

    CloseError
    ├── DataError          (ValueError)         a row, a vector or a file's content is not what it has to be
    ├── MissingError       (FileNotFoundError)  a file or folder is not there
    ├── RecipeError        (ValueError)         a recipe or an option is wrong
    ├── UnknownNameError   (LookupError)        no such encoder, adapter, task, key; tells the nearest
    ├── WeightsError       (RuntimeError)       weights can't be loaded
    ├── MismatchError      (ValueError)         two things do not belong together (encoder, dimension, fingerprint)
    ├── OutputExistsError  (FileExistsError)    the output is there already, or belongs to another job
    ├── NotFittedError     (RuntimeError)       a fitted adapter is used before `fit`
    └── PartialError       (RuntimeError)       the work is done but for some inputs, which it names
"""

import logging
import re
import reprlib
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice
from numbers import Integral

__all__ = [
    "CloseError",
    "DataError",
    "MismatchError",
    "MissingError",
    "NoTextError",
    "NotFittedError",
    "OutputExistsError",
    "PartialError",
    "RecipeError",
    "UnknownNameError",
    "WeightsError",
    "counted",
    "firsts",
    "listed",
    "reason",
    "shown",
    "warn_once",
    "written",
]


_LENGTH = 1500
_COMMANDS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100


class CloseError(Exception):
    """Base of every error told to the user in one line, whatever names and values it quotes."""

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__(_bounded(written(message)), *more)


class DataError(CloseError, ValueError):
    """A row, a vector or a file's content is not what it has to be."""


class NoTextError(DataError):
    """A row says nothing."""


class MissingError(CloseError, FileNotFoundError):
    """A file or folder is not there."""


class RecipeError(CloseError, ValueError):
    """A recipe or an option is wrong."""


class UnknownNameError(CloseError, LookupError):
    """No such encoder, adapter, task or key; the message tells the nearest one."""


class WeightsError(CloseError, RuntimeError):
    """Weights can't be loaded."""


class MismatchError(CloseError, ValueError):
    """Two things do not belong together: encoder, dimension or fingerprint."""


class OutputExistsError(CloseError, FileExistsError):
    """The output is there already, or belongs to another job."""


class NotFittedError(CloseError, RuntimeError):
    """A fitted adapter is used before `fit`."""


class PartialError(CloseError, RuntimeError):
    """The work is done but for some inputs, which the message names."""


def written(value: object, keep: str = "") -> str:
    r"""A stranger's text, a name or a caption, as messages, terminals, tables and files may have it: on one line.

    What breaks a line, moves a terminal's cursor, turns text around, or is no text (bytes of a name that are not UTF-8, half a
    character) is spelt as JSON spells it, \n or \u001b; there it means the same. data_gen has the same in its own `errors`.

    Args:
        keep: those of these characters that stay.
    """
    return _COMMANDS.sub(lambda found: found[0] if found[0] in keep else _spelt(found[0]), str(value))


def _spelt(character: str) -> str:
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def _bounded(line: str) -> str:
    return line if len(line) <= _LENGTH else f"{line[: _LENGTH - 300]} … {line[-300:]}"


_ADDRESS = re.compile(r"<(?:[\w.]+\.)?(\w+) object at 0x[0-9a-fA-F]+>")
"""An object as Python shows it, which says where in memory it lies."""


def reason(error: BaseException, *, whole: bool = True) -> str:
    """What another library's exception says, in one line; its kind where it says nothing.

    Args:
        whole: all of it; else its first line, and what a colon, a comma or an "or" at its end goes on with, where libraries
            add advice of their own.
    """
    said = _ADDRESS.sub(r"\1", str(error))
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()] or [type(error).__name__]
    ends = (place for place, line in enumerate(lines) if not line.endswith((":", ",", " or")))
    return " ".join(lines if whole else lines[: next(ends, len(lines)) + 1])


def counted(value: object, what: str, least: int = 1) -> int:
    """How many of something are asked for, as Python's own number.

    Args:
        what: its name, for the message.
    Raises:
        RecipeError: it is no whole number, or a smaller one than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise RecipeError(f"{what} is a whole number of at least {least}, not {shown(value)}")
    return int(value)


def shown(value: object) -> str:
    """A value as messages show it: its `repr`, of what is long or deep the ends alone."""
    try:
        return _REPR.repr(value)
    except ValueError:  # a number of thousands of digits
        return f"a {type(value).__name__}"


def listed(names: Iterable[object]) -> str:
    """Names of a stranger's file as messages list them: each on one line and not long, thirty at most."""
    given = iter(names)
    first = [" ".join(str(name).split())[:60] for name in islice(given, 30)]
    return ", ".join(first + ["…"] * (next(given, None) is not None))


def firsts(messages: Sequence[str], most: int = 5) -> str:
    """Messages one after the other: of many the first, and how many more there are."""
    more = len(messages) - most
    return "; ".join([*messages[:most], *([f"… and {more} more"] if more > 0 else [])])


@cache
def warn_once(log: logging.Logger, message: str) -> None:
    """Warn with a line that is told once, however often what it is of is met: a sweep looks at the same in many runs."""
    log.warning("%s", message)
