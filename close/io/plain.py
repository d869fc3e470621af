"""Plain values out of files that somebody else may have made: YAML and JSON, within limits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from close.errors import DataError, MissingError, reason, shown
from close.io.files import read_json

__all__ = ["parse_yaml", "plain", "read_plain", "read_yaml", "walked"]

BYTES = 2**20
"""A YAML file's size at most."""
DEPTH, VALUES = 50, 100_000
"""How deep values may be nested, and how many there may be, with what an anchor stands for counted each time."""
LARGEST = 10**40
"""Tokenizers say 10³⁰ for "no limit"."""
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_WHOLE, _DECIMALS = re.compile(r"[-+]?\d+"), re.compile(r"\d+([eE][-+]?\d+)?")


class _Loader(yaml.SafeLoader):
    """YAML without dates (they stay text), without a key that is given twice, and without decimal commas, which make keys."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One more value, inside its parent."""
        self.depth += 1
        if self.depth > DEPTH:
            raise yaml.YAMLError(f"it is nested more than {DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping, each key once."""
        _refuse_commas(node)
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and names.count(key.value) > 1 and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is given twice", key.start_mark)
        return super().construct_mapping(node, deep)


def _refuse_commas(node: Any) -> None:
    """Refuse `{cosine: 0,41}`, which to YAML is a cosine of 0, and a key 41 of nothing."""
    for (key, number), (decimals, nothing) in pairwise(node.value if node.flow_style else ()):
        parts = (number, decimals, nothing)
        if not all(isinstance(part, yaml.ScalarNode) and not part.style for part in parts) or nothing.value:
            continue
        if _WHOLE.fullmatch(number.value) and _DECIMALS.fullmatch(decimals.value):
            what = f"{key.value}: {number.value},{decimals.value}"
            better = f"{number.value}.{decimals.value}"
            message = f"{what!r}: a number takes a decimal point, not a comma: {better}"
            raise yaml.constructor.ConstructorError(None, None, message, number.start_mark)


def parse_yaml(text: str) -> Any:
    """The plain values of a YAML text.

    Raises:
        ValueError: it is no YAML, or too much; says why.
    """
    if len(text) > BYTES:
        raise ValueError(f"it is longer than {BYTES} characters")
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_said(error, text.splitlines())) from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # numbers of thousands of digits, odd tags
        raise ValueError(reason(error)) from None
    return plain(values)


def _said(error: yaml.MarkedYAMLError, lines: list[str]) -> str:
    """The error with its line, without the picture of it that YAML draws over several."""
    mark, began = error.problem_mark, error.context_mark
    what = error.problem or reason(error)
    if mark is None:
        return what
    line = lines[mark.line] if mark.line < len(lines) else ""
    if r"'\t'" in what:
        what = "a tab, where YAML takes spaces"
    if began and began.line != mark.line:
        what += f", {error.context} from line {began.line + 1} on"
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}" + (f" ({shown(line.strip())})" if line else "")


def plain(values: Any) -> Any:
    """The values themselves, if they are plain and not too many: texts, numbers that a computer has, lists and mappings.

    Raises:
        ValueError: they are not; says why.
    """
    for value in walked(values):
        if isinstance(value, (dict, list)):
            continue
        if isinstance(value, str):
            if _NO_TEXT.search(value):
                raise ValueError(f"{value[:40]!r} holds a character that no text has")
        elif isinstance(value, int):
            if abs(value) > LARGEST:
                raise ValueError(f"a number of {len(hex(value)) * 6 // 5 - 2} digits or so, which no setting has")
        elif not isinstance(value, float) and value is not None:
            raise ValueError(f"expected text, numbers, lists and mappings, not {type(value).__name__}")
    return values


def walked(values: Any, *, deepest: int = DEPTH, most: int = VALUES) -> Iterator[Any]:
    """Every value in nested lists and mappings, these and their keys too; what holds itself never ends, and is refused.

    Args:
        deepest: how deep they may be nested. most: how many there may be.
    Raises:
        ValueError: they are more, or deeper.
    """
    waiting, count = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > most or depth > deepest:
            raise ValueError(f"more than {most} values, or nested more than {deepest} deep")
        yield value
        if isinstance(value, Mapping):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, depth + 1) for part in value]


def read_yaml(path: str | Path) -> Any:
    """The plain values of a YAML file.

    Raises:
        MissingError: no such file. DataError: it is no YAML, or too much.
    """
    try:
        if not os.path.isfile(path):
            raise MissingError(f"{path}: no such file")
        if Path(path).stat().st_size > BYTES:
            raise ValueError(f"it is larger than {BYTES} bytes")
        return parse_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path}: not YAML: {reason(error)}") from None


def read_plain(path: str | Path) -> dict[str, Any]:
    """What a JSON file of settings says: one object of plain values.

    Raises:
        MissingError: no such file. DataError: it is no JSON, no object, or too much.
    """
    values = read_json(path)
    try:
        if not isinstance(values, dict):
            raise ValueError(f"expected an object of keys and values, not {type(values).__name__}")
        plain(values)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    return values
