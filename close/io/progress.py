"""One progress line on stderr: items, rate, time left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from close.io.files import write_json

__all__ = ["progress"]


@contextmanager
def progress(what: str, unit: str = "items") -> Iterator[Callable[..., None]]:
    """A progress line; yields `update(done, all, note="")`, whose first call says where the work begins.

    Where stderr is no terminal, a line is written every ten seconds or so (`TQDM_MININTERVAL`). For programs that watch this
    one, `CLOSE_PROGRESS` names a file that says how far it is: `{"what", "done", "total"}`, made anew five times a second.
    """
    from tqdm import tqdm

    watched, written = os.environ.get("CLOSE_PROGRESS"), 0.0

    bars: list[Any] = []  # made on the first report, so that work done before shows nothing

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal written
        if watched and (done == total or time.monotonic() - written > 0.2):
            write_json(watched, {"what": what, "done": done, "total": total})
            written = time.monotonic()
        if not bars:
            options: dict[str, Any] = {"smoothing": 0.1, "mininterval": _interval(), "dynamic_ncols": True}
            bars.append(tqdm(total=total, initial=done, desc=what, unit=f" {unit}", **options))
        bars[0].set_postfix_str(note, refresh=False)
        bars[0].update(done - bars[0].n)

    try:
        yield update
    finally:
        for bar in bars:
            bar.close()


def _interval() -> float:
    return float(os.environ.get("TQDM_MININTERVAL") or (0.2 if sys.stderr.isatty() else 10.0))
