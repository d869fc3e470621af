"""Damage to files, seeded: what every reader of the product is tried with, 200 inputs of a kind, or `FUZZ_INPUTS`.

A fuzz test has "fuzz" in its name and takes the fixture `tried`, which counts; `python -m experiments.faults.fuzz` runs them all.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["INPUTS", "ODD", "Tried", "as_json", "damaged", "reshaped"]

INPUTS = int(os.environ.get("FUZZ_INPUTS", 200))

DEEP = "\0deep"
"""Stands for brackets in thousands, which no writer writes; `as_json` does."""
ODD: list[Any] = [
    *(None, True, False, 0, -1, 10**30, -(10**400), 1e308, 0.5, math.nan, math.inf),
    *(
        "",
        " ",
        "\0",
        "a\nb",
        "\x1b[31mred",
        "\u2028",
        "e\u0301",
        "नमस्ते",
        "😀",
        "x" * 70_000,
        "nan",
        "1e999",
        "2026-13-45T99:99:99Z",
    ),
    *("../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "~", "C:\\x", "\ud800"),
    *([], {}, [[]], [None], {"": None}, [{"a": [1, {"b": 2}]}], DEEP),
]
"""Values that a file may hold where another one is expected."""


def damaged(whole: bytes, count: int = INPUTS, seed: int = 0) -> Iterator[bytes]:
    """`count` versions of a file's bytes: flipped, cut, doubled, swapped, foreign bytes, runs of zeros, other encodings."""
    rng = random.Random(seed)
    size = max(len(whole), 1)
    foreign = [
        b"\0" * 40,
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3\x28",
        b"\r",
        b"\n\n",
        b'"',
        b"{",
        b"[" * 5000,
        b"}",
        b"\\u",
        b"NaN",
        b"1e999",
        b"\x1b[2J",
    ]

    def flipped(data: bytes, at: int) -> bytes:
        return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :] if data else b"\xff"

    def changed(data: bytes) -> bytes:
        at, to = sorted((rng.randrange(size), rng.randrange(size)))
        return rng.choice(
            [
                lambda: flipped(data, min(at, max(len(data) - 1, 0))),
                lambda: data[:at],
                lambda: data[at:],
                lambda: data[:at] + data[to:],
                lambda: data[:to] + data[at:],
                lambda: data[:at] + rng.choice(foreign) + data[at:],
                lambda: data[:at] + bytes(to - at) + data[to:],
                lambda: data[:at] + rng.randbytes(rng.randrange(1, 30)) + data[at:],
                lambda: data.decode("utf-8", "replace").encode(
                    rng.choice(["utf-16", "utf-32", "cp037", "utf-8-sig"]), "replace"
                ),
            ]
        )()

    for _ in range(count):
        data = whole
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            data = changed(data)
        yield data


def as_json(value: Any) -> bytes:
    """JSON of a value of `reshaped`, as a hostile writer writes it."""
    return json.dumps(value).replace(json.dumps(DEEP), "[" * 3000 + "]" * 3000).encode()


def reshaped(document: Any, count: int = INPUTS, seed: int = 0) -> Iterator[Any]:
    """`count` versions of what JSON or YAML holds: values put in another's place, keys lost, added, or of another name."""
    rng = random.Random(seed)

    def places(node: Any) -> Iterator[tuple[Any, Any]]:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            yield node, key
            yield from places(node[key])

    for _ in range(count):
        made = [copy.deepcopy(document)]
        for _ in range(rng.choice((1, 1, 2, 3))):
            node, key = rng.choice(list(places(made)))
            what = rng.randrange(6)
            if what == 0 and isinstance(node, dict):
                del node[key]
            elif what == 1 and isinstance(node, dict):
                node[rng.choice(["", "id", "x" * 300, "__class__", "méta", str(key).upper()])] = node.pop(key)
            elif what == 2:
                node[key] = copy.deepcopy([node[key]] * rng.choice((0, 1, 2, 50)))
            elif what == 3:
                node[key] = copy.deepcopy(rng.choice(list(places(made)))[0])
            else:
                node[key] = copy.deepcopy(rng.choice(ODD))
        if made:
            yield made[0]


class Tried:
    """Inputs that were tried, and how many of them were refused in one line; anything else that is raised is a fault."""

    def __init__(self) -> None:
        self.inputs = self.refused = 0

    def __call__(self, call: Callable[[], Any], *errors: type[Exception]) -> Any:
        """What `call` returns, or the told error.

        Args:
            errors: that are told; CloseError where none is given.
        """
        if not errors:
            from close.errors import CloseError

            errors = (CloseError,)
        self.inputs += 1
        try:
            return call()
        except errors as error:
            told = error
        said = str(told)
        assert said.strip(), f"an empty {type(told).__name__}"
        assert "\n" not in said, said
        assert len(said) < 2000, said[:2000]
        self.refused += 1
        return told
