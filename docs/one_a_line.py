"""Docstrings of this house say short arguments side by side; those who read them by machine want each on a line of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import griffe

__all__ = ["OneALine", "one_a_line"]

SECTION = re.compile(r"^( *)(Args|Attributes):\n((?:\1 +.*\n?|\s*\n)+)", re.MULTILINE)


def one_a_line(doc: str, names: Iterable[str]) -> str:
    """A docstring whose `Args` and `Attributes` have a line for each name; `a, b: …` is said of both."""
    known = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    if not known:
        return doc
    entry = re.compile(rf"(?<=[.;)])\s+(?=(?:{known})(?:, (?:{known}))*: )")

    def split(found: re.Match[str]) -> str:
        inner = " " * (len(found[1]) + 4)
        lines = re.sub(rf"\n{inner} +", " ", found[3]).split("\n")
        parted = "\n".join(entry.sub(f"\n{inner}", line) for line in lines).split("\n")
        return f"{found[1]}{found[2]}:\n" + "\n".join(one for line in parted for one in _of_each(line))

    return SECTION.sub(split, doc)


def _of_each(line: str) -> list[str]:
    found = re.match(r"( *)(\w+(?:, \w+)+): ", line)
    if not found:
        return [line]
    return [f"{found[1]}{name}: {line[found.end() :]}" for name in found[2].split(", ")]


class OneALine(griffe.Extension):
    """Of functions, of classes, and of what a class is made with."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Every object, once its members are there."""
        if obj.docstring is None:
            return
        names = set(obj.members) if obj.is_class else set()
        maker = obj.members.get("__init__") if obj.is_class else obj
        names |= {parameter.name for parameter in getattr(maker, "parameters", ())}
        obj.docstring.value = one_a_line(obj.docstring.value, names)
