"""The errors that users are told about, each a single clear line.

DataGenError                    exit code 1
├── InputError    (ValueError)   an option or a file that was given is not what it has to be
├── OutputError   (OSError)      the output belongs to another run or process, or can't be written
├── ServerError   (RuntimeError) the server refuses, is unknown, or can't be reached
├── StuckError    (RuntimeError) requests are answered, but no row is accepted any more
└── BudgetError   (RuntimeError) stopped by a budget; the same command with a larger one continues (exit code 3)
"""

from __future__ import annotations

import re
import reprlib

__all__ = [
    "BudgetError",
    "DataGenError",
    "InputError",
    "OutputError",
    "ServerError",
    "StuckError",
    "shown",
    "written",
]


_COMMANDS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def written(value: object) -> str:
    r"""A stranger's text as messages and terminals may have it: on one line.

    What breaks a line, moves a terminal's cursor, turns text around, or is no text is spelt as JSON spells it, \n or \u001b;
    there it means the same. close has the same in its own `errors`.
    """
    return _COMMANDS.sub(lambda found: _SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", str(value))


def shown(value: object) -> str:
    """A value as a message may hold it: on one line, and short."""
    try:
        return written(reprlib.repr(value))[:100]
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a {type(value).__name__}"


class DataGenError(Exception):
    """Base of every error told to the user in one line."""

    exit_code = 1

    def __str__(self) -> str:
        return written(super().__str__())


class InputError(DataGenError, ValueError):
    """An option or a file that was given is not what it has to be."""


class OutputError(DataGenError, OSError):
    """The output belongs to another run or process, or can't be written."""


class ServerError(DataGenError, RuntimeError):
    """The server refuses every request, does not know the model, or can't be reached."""


class StuckError(DataGenError, RuntimeError):
    """Requests are answered, but no row is accepted any more."""


class BudgetError(DataGenError, RuntimeError):
    """A budget is spent; the same command with a larger one continues."""

    exit_code = 3
