"""Items of one JSON array, one after the other, without holding the file in memory.

ijson (3.6, tried) names neither the record nor what was expected, reads UTF-8 alone, and is as fast only with its C library.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from close.data.text import TextFile
from close.errors import DataError, listed, shown

__all__ = ["first_items", "json_items", "json_pairs", "json_value"]

_LAYOUTS = {"data": "textcaps", "questions": "vqa", "images": "coco, nocaps or karpathy"}
"""Key at the top level to the formats that have it."""
_AN_OBJECT = "; it may be in the format coco, nocaps, karpathy, textcaps, vqa or json"
_A_LIST = "; it may be in the format json, vqa-e or visualnews"
_NO_SPACE = re.compile(r"\S")
_CHUNK = 1 << 18


def json_items(path: Path, key: str | None = None, *, encoding: str = "utf-8") -> Iterator[tuple[str, Any]]:
    """Yield (where, item) of the array at the top level (`key=None`), or under a key of the object there.

    Raises:
        MissingError: no such file.
        DataError: not JSON, cut off, of another structure, or not in `encoding`.
    """
    text = _Text(path, encoding)
    first = text.peek()
    if key is None:
        if first != "[":
            raise DataError(
                f"{path}: expected a JSON list of records, found {_found(first)}{_AN_OBJECT * (first == '{')}"
            )
        yield from text.array("record")
        return
    if first != "{":
        raise DataError(
            f"{path}: expected a JSON object with the key {key!r}, found {_found(first)}{_A_LIST * (first == '[')}"
        )
    found = []
    for name in text.names():
        if name != key:
            found.append(name)
            text.skip(name)
            continue
        if text.peek() != "[":
            raise DataError(f"{path}: {key!r} is not a list")
        yield from text.array(key)
        return
    layouts = _LAYOUTS | ({"images": "nocaps or karpathy"} if key == "annotations" else {})
    other = next((f"; it may be in the format {layouts[name]}" for name in found if name in layouts), "")
    raise DataError(f"{path}: no key {key!r} at the top level; it has {listed(found) or 'none'}{other}")


def first_items(path: Path, *, encoding: str = "utf-8") -> dict[str, Any] | None:
    """The first item of every list that lies under a key of the object at the top level; None where there is a list there.

    Raises:
        MissingError, DataError: as `json_items`.
    """
    text = _Text(path, encoding)
    if text.peek() == "[":
        return None
    found = {}
    for name in text.names():
        if text.peek() != "[":
            text.skip(name)
            continue
        for number, (_, item) in enumerate(text.array(name)):
            if not number:
                found[name] = item
    return found


def json_pairs(path: Path, *, encoding: str = "utf-8") -> Iterator[tuple[str, str, Any]]:
    """Yield (where, key, value) of the object at the top level."""
    text = _Text(path, encoding)
    for name in text.names():
        yield f"{path}: {shown(name)}", name, text.value(name)


def json_value(path: Path, key: str, *, encoding: str = "utf-8") -> Any:
    """The value under a top-level key; None where there is none. Lists are not read: a list comes back empty."""
    text = _Text(path, encoding)
    if text.peek() != "{":
        return None
    for name in text.names():
        if name == key:
            return [] if text.peek() == "[" else text.value(key)
        text.skip(name)
    return None


def _found(character: str) -> str:
    return {"": "an empty file", "{": "an object", "[": "a list"}.get(character, f"{character!r}")


class _Text:
    """A JSON file read in pieces."""

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, text = path, TextFile(path, encoding)
        self.file = path.open("rb")
        self.file.seek(text.start)
        self.encoding = text.codec
        self.decoder = codecs.getincrementaldecoder(text.codec)()
        self.decode = json.JSONDecoder().raw_decode
        self.buffer, self.place, self.at_end = "", 0, False

    def more(self, size: int = 0) -> bool:
        """Read another piece, of `size` bytes or what is usual; False at the end of the file."""
        if self.at_end:
            return False
        piece = self.file.read(max(size, _CHUNK))
        self.at_end = not piece
        try:
            added = self.decoder.decode(piece, final=self.at_end)
        except UnicodeError as error:
            byte = self.file.tell() - len(piece) + getattr(error, "start", 0)
            hint = "; say which encoding it is, e.g. latin-1" if self.encoding == "utf-8" else ""
            raise DataError(f"{self.path}: not {self.encoding.upper()} near byte {byte}{hint}") from None
        self.buffer, self.place = self.buffer[self.place :] + added, 0
        if self.at_end:
            self.file.close()
        return True

    def peek(self) -> str:
        """The next character that is no white space; "" at the end."""
        while True:
            if found := _NO_SPACE.search(self.buffer, self.place):
                self.place = found.start()
                return found[0]
            self.place = len(self.buffer)
            if not self.more():
                return ""

    def take(self, allowed: str, where: str) -> str:
        """Step over one of the `allowed` characters."""
        character = self.peek()
        if character == "":
            raise DataError(f"{self.path}: {where}: the file ends here, in the middle; it is cut off")
        if character not in allowed:
            raise DataError(f"{self.path}: {where}: not JSON (found {character!r}, expected {' or '.join(allowed)})")
        self.place += 1
        return character

    def value(self, where: str) -> Any:
        """The next whole value."""
        self.peek()
        while True:
            try:
                value, end = self.decode(self.buffer, self.place)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self.buffer) - 16 or error.msg.startswith("Unterminated")
                if cut and self.more(
                    len(self.buffer) - self.place
                ):  # as much again, so that a long value is not begun too often
                    continue
                problem = "the file ends here, in the middle; it is cut off" if cut else f"not JSON ({error.msg})"
                raise DataError(f"{self.path}: {where}: {problem}") from None
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in thousands
                raise DataError(f"{self.path}: {where}: JSON beyond all measure ({error})") from None
            if end < len(self.buffer) or not self.more():
                self.place = end
                return value

    def array(self, name: str) -> Iterator[tuple[str, Any]]:
        """Yield (where, item) of the array that begins here."""
        self.take("[", name)
        if self.peek() == "]":
            self.place += 1
            return
        index = 0
        while True:
            where = f"{name}[{index}]"
            yield f"{self.path}: {where}", self.value(where)
            if self.take(",]", f"after {where}") == "]":
                return
            index += 1

    def names(self) -> Iterator[str]:
        """Yield the keys of the object that begins here; the caller reads each value."""
        self.take("{", "the object")
        if self.peek() == "}":
            self.place += 1
            return
        while True:
            name = self.value("a key")
            if not isinstance(name, str):
                raise DataError(f"{self.path}: not JSON (a key is {shown(name)})")
            self.take(":", f"after key {shown(name)}")
            yield name
            if self.take(",}", f"after the value of {shown(name)}") == "}":
                return

    def skip(self, name: str) -> None:
        """Step over a value; a long list or object goes item by item."""
        if self.peek() == "[":
            for _ in self.array(name):
                pass
        elif self.peek() == "{":
            for key in self.names():
                self.value(key)
        else:
            self.value(name)
