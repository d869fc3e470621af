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

__all__ = [
    "CloseError",
    "DataError",
    "MismatchError",
    "MissingError",
    "NotFittedError",
    "OutputExistsError",
    "PartialError",
    "RecipeError",
    "UnknownNameError",
    "WeightsError",
    "reason",
]

LONGEST = 1500


class CloseError(Exception):
    """Base of every error told to the user in one line, which quotes no more of a file than can be read."""

    def __str__(self) -> str:
        text = " ".join(super().__str__().splitlines())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 300]} … {text[-300:]}"


class DataError(CloseError, ValueError):
    """A row, a vector or a file's content is not what it has to be."""


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


def reason(error: BaseException, *, whole: bool = True) -> str:
    """What another library's exception says, in one line; its kind where it says nothing.

    Args:
        whole: all of it; else its first line (two where that ends in a colon), where libraries go on with advice of their own.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines if whole else lines[: 1 + lines[0].endswith(":")])
