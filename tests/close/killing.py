"""Work that is stopped as a kill would stop it, in this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest


class Killed(BaseException):
    """No handler of errors sees it."""


def killed(patch: pytest.MonkeyPatch, at: int, work: Callable[[], Any]) -> bool:
    """Do the work as if killed before its `at`-th change of the file system; whether it ended before that."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count >= at:  # nor is anything done on the way out
                raise Killed
            return function(*args, **kwargs)

        return call

    for place, name in ((os, "replace"), (os, "mkdir"), (os, "unlink"), (os, "rmdir"), (shutil, "rmtree")):
        patch.setattr(place, name, counted(getattr(place, name)))
    try:
        work()
    except Killed:
        return False
    return True
