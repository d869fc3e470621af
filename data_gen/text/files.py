"""Words of a text, cleaning what a model wrote, and reading files of texts."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.errors import InputError

__all__ = ["Text", "clean", "read_lines", "read_rows", "read_texts", "words"]

_WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W\d_぀-ヿ㐀-鿿]+(?:['’-][^\W\d_]+)*|\d+")
_KEYS = ("target", "source", "caption", "text")


@dataclass(frozen=True)
class Text:
    """A text with the id that it has in its file: the row's `id`, or else the line number."""

    id: str
    text: str


def words(text: str) -> list[str]:
    """Lower-cased words and numbers, in order; Chinese and Japanese characters count one by one."""
    return _WORD.findall(text.lower())


def clean(text: str) -> str:
    """NFC, one line, without control and format characters and lone surrogates, single spaces."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = (c if c.isprintable() or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else " " for c in text)
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


def _open(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, cleaned."""
    return [line for line in map(clean, _open(path).split("\n")) if line]


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every line of a JSONL file."""
    for number, line in enumerate(_open(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
        yield number, row


def _texts_of(path: Path, keys: Sequence[str]) -> Iterator[Text]:
    if path.suffix == ".jsonl":
        for number, row in read_rows(path):
            value = next((row[key] for key in keys if row.get(key)), None)
            for text in value if isinstance(value, list) else [value]:
                if not isinstance(text, str):
                    raise InputError(f"{path}, line {number}: no text under any of {', '.join(keys)}")
                yield Text(str(row.get("id", number)), clean(text))
    elif path.suffix == ".json":  # COCO's annotation file
        try:
            annotations = json.loads(_open(path))["annotations"]
            yield from (Text(str(a["id"]), clean(a["caption"])) for a in annotations)
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is not a COCO caption file (annotations with id and caption)") from None
    else:
        yield from (Text(str(number), clean(line)) for number, line in enumerate(_open(path).split("\n"), 1))


def read_texts(path: Path, keys: Sequence[str] = _KEYS) -> list[Text]:
    """The texts of a `.txt` (one a line), `.jsonl` (the first of `keys` that a row has) or COCO `.json` file.

    Raises:
        InputError: the file can't be read, is broken, or holds no words.
    """
    texts = [text for text in _texts_of(path, keys) if words(text.text)]
    if not texts:
        raise InputError(f"{path} holds no text with words in it; expected one caption a line, or JSONL rows")
    return texts
