"""The `close` command: each verb is a thin call of one public function.

stdout carries results, stderr progress and messages. Exit codes: 0 done, 1 a told error in one line, 2 wrong usage,
3 stopped by a budget, 130 interrupted.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer
import typer.core

from close.cli.options import Verb
from close.errors import CloseError, reason, written
from close.fast.imports import light_imports
from close.io.files import may_not_write
from close.io.keys import cache_folder
from close.io.terminal import escape_the_rest, show
from close.io.versions import own_version
from close.plugins import load_installed

__all__ = ["commands", "main", "run"]

USAGE, INTERRUPTED = 2, 130
USING = {"calibrate", "caption", "classify", "embed", "evaluate", "gap", "info", "retrieve", "serve"}
"""Verbs that use models and train none."""
ROOMS = "embed info parts init train caption serve score calibrate adapters gap convert zero_shot publish export"
"""Modules of this package that have verbs, in the order of `--help`."""


def commands() -> typer.Typer:
    """Every verb."""
    app = typer.Typer(name="close", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_close)
    for room in ROOMS.split():
        import_module(f"close.cli.{room}").register(app)
    groups = (group.typer_instance for group in app.registered_groups)
    for command in [*app.registered_commands, *(one for group in groups if group for one in group.registered_commands)]:
        if command.cls is typer.core.TyperCommand:
            command.cls = Verb
    return app


def _say_version(asked: bool) -> None:
    if asked:
        show(f"close {own_version()}")
        raise typer.Exit


def _close(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="The version.")
    ] = False,
) -> None:
    """Train on text, run on images: text-only cross-modal transfer."""


def main() -> None:
    """Entry point of a process: run a verb, which starts sooner where it uses models and trains none."""
    if set(sys.argv[1:2]) & USING:
        light_imports()
    run()


def run() -> None:
    """Run the verb that the process's arguments name; told errors become one line and an exit code."""
    escape_the_rest()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it can't read is told, and so is what is too large
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if _is_empty(sys.argv[1:]):  # a path of nothing would be the working directory
        print("error: an argument is empty; is it a variable of the shell that holds nothing?", file=sys.stderr)
        sys.exit(USAGE)
    try:
        with _notes():
            load_installed()
            commands()(standalone_mode=True)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
            _interrupted()
        raise
    except CloseError as error:
        _stop(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if (full := _disk_full(error)) is not None:
            _stop(f"writing failed, the disk is full{full}; free some space, and continue as after an interruption")
        if isinstance(error, OSError) and error.errno is not None:
            _stop(_by_the_system(error))
        raise


@contextmanager
def _notes() -> Iterator[None]:
    """What the package logs as lines on stderr, a fault with its traceback, whatever other libraries do to logging."""
    log, handler = logging.getLogger("close"), _Notes()
    log.addHandler(handler)
    log.propagate, level = False, log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True
        log.setLevel(level)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode(file=sys.stderr):  # above a progress line, not in it
            show(f"note: {written(record.getMessage())}", err=True)
            if record.exc_info:
                show(logging.Formatter().formatException(record.exc_info), err=True)


def _is_empty(arguments: list[str]) -> bool:
    """Whether one that is no option's value is empty."""
    return any(not one and not before.startswith("-") for before, one in pairwise(["", *arguments]))


_SHORT = r"PytorchStreamWriter failed writing file|unexpected pos \d+ vs \d+|\d+ requested and \d+ written"
"""How torch's and numpy's writers say that less was written than they wanted."""


def _disk_full(error: BaseException) -> str | None:
    """None where writing did not fail for want of space; else what is to be added to saying so.

    Rust's libraries give the system's number in their text. torch's writer and numpy's say only that not all was written.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    cause: BaseException | None = error
    while cause is not None:
        number = re.search(r"\(os error (\d+)\)", str(cause))
        if getattr(cause, "errno", None) in full or (number and int(number[1]) in full):
            return ""
        if re.search(_SHORT, str(cause)):
            return f" or takes no more for another reason ({reason(cause, whole=False)})"
        cause = cause.__cause__ or cause.__context__
    return None


def _by_the_system(error: OSError) -> str:
    """What the system refused; of what may not be written, the folder that refuses and the way out."""
    place = Path(os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else "a file")
    is_cached = place.absolute().is_relative_to(cache_folder().absolute())
    if not may_not_write(error) or (os.path.exists(place) and not is_cached):
        return f"{place}: {error.strerror}"
    way = "set CLOSE_CACHE to a folder that may be written to" if is_cached else "choose another place to write to"
    folder = next(folder for folder in place.absolute().parents if os.path.exists(folder))
    return f"{folder}: may not be written to ({error.strerror}); {way}"


def _interrupted() -> None:
    print("interrupted; what is finished is kept", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _stop(message: str) -> None:
    show(f"error: {written(message)}", err=True)
    sys.exit(1)
