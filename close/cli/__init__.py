"""The `close` command: each verb is a thin call of one public function.

stdout carries results, stderr progress and messages. Exit codes: 0 done, 1 a told error in one line, 2 wrong usage,
3 stopped by a budget, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import re
import sys

import typer

from close.errors import CloseError

__all__ = ["app", "main"]

app = typer.Typer(
    name="close",
    help="Train on text, run on images: text-only cross-modal transfer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


INTERRUPTED = 130


def main() -> None:
    """Entry point: run a verb; told errors become one line and an exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from close.cli import adapter, gap, model, scoring, tables, zero_shot

        for room in (tables, model, adapter, gap, scoring, zero_shot):
            room.register(app)
        app(standalone_mode=True)
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
        if _is_disk_full(error):
            _stop("writing failed, the disk is full; free some space, and continue as after an interruption")
        if not isinstance(error, OSError) or error.errno is None:
            raise
        _stop(f"{error.filename or 'a file'}: {error.strerror}")


def _is_disk_full(error: Exception) -> bool:
    """Every library has its own words for it."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    words = r"No space left|File too large|requested and \d+ written|PytorchStreamWriter|inline_container"
    return getattr(error, "errno", None) in full or re.search(words, str(error)) is not None


def _interrupted() -> None:
    print("interrupted; what is finished is kept", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _stop(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
