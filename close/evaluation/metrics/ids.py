"""What to say of an id that the other side does not know."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Protocol

__all__ = ["about_id"]

_NUMBER = re.compile(r"0*(\d+)(?:\.\w+)?$")


class _Ids(Container[str], Iterable[str], Protocol): ...


def about_id(name: str, known: _Ids) -> str:
    """The end of a message: the id that was meant, if it can be seen, else what ids look like on the other side."""
    number = _NUMBER.search(name)
    stem = name.rpartition("/")[2].rpartition(".")[0]
    meant = next((one for one in (number and number[1], stem) if one and one != name and one in known), None)
    if meant is not None:
        return f" (it looks like a file's name: write the id, {meant!r})"
    example = next(iter(known), None)
    return "" if example is None else f" (the other side's ids are like {example!r})"
