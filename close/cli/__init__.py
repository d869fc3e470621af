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
from close.plugins import load_installed

__all__ = ["commands", "main"]

USAGE, INTERRUPTED = 2, 130


def commands() -> typer.Typer:
    """Every verb."""
    from close.cli import adapters, caption, convert, embed, gap, info, score, train, zero_shot

    app = typer.Typer(
        name="close",
        help="Train on text, run on images: text-only cross-modal transfer.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for room in (embed, info, train, caption, score, adapters, gap, convert, zero_shot):
        room.register(app)
    return app


def main() -> None:
    """Entry point: run a verb; told errors become one line and an exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        load_installed()
        commands()(standalone_mode=True)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
            _interrupted()
        if stop.code == USAGE and _names_json_file(sys.argv):
            print("error: --json prints JSON on stdout; to write a file, add --out FILE", file=sys.stderr)
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


def _names_json_file(arguments: list[str]) -> bool:
    """Whether `--json` was given a file, as older versions took it."""
    following = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(flag == "--json" and value and (value == "-" or value[0] != "-") for flag, value in following) or any(
        argument.startswith("--json=") for argument in arguments
    )


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
