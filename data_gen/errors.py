"""The errors that users are told about, each a single clear line.

DataGenError                    exit code 1
├── InputError    (ValueError)   an option or a file that was given is not what it has to be
├── OutputError   (OSError)      the output belongs to another run or process, or can't be written
├── ServerError   (RuntimeError) the server refuses, is unknown, or can't be reached
├── StuckError    (RuntimeError) requests are answered, but no row is accepted any more
└── BudgetError   (RuntimeError) stopped by a budget; the same command with a larger one continues (exit code 3)
"""

from __future__ import annotations

import reprlib

__all__ = [
    "BudgetError",
    "DataGenError",
    "InputError",
    "OutputError",
    "ServerError",
    "StuckError",
    "printable",
    "shown",
]


def printable(text: str) -> str:
    """A text as a terminal may have it: on one line, with an escape for what is no visible character."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """A value as a message may hold it: on one line, and short."""
    try:
        return printable(reprlib.repr(value))[:100]
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a {type(value).__name__}"


class DataGenError(Exception):
    """Base of every error told to the user in one line."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


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
