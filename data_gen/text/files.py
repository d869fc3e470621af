"""Files of texts, of rows and of settings; and files that appear whole or not at all."""

from __future__ import annotations

import codecs
import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data_gen.errors import DataGenError, InputError, OutputError, shown
from data_gen.text.words import clean, words

__all__ = [
    "Text",
    "builtin",
    "json_line",
    "parse_json",
    "raw_lines",
    "read_lines",
    "read_rows",
    "read_texts",
    "read_toml",
    "too_deep",
    "whole",
]

_KEYS = ("target", "source", "caption", "text")


@dataclass(frozen=True)
class Text:
    """A text with the id that it has in its file: the row's `id`, or else the line number."""

    id: str
    text: str


_DEEPEST = 100


def too_deep(value: Any) -> bool:
    """Whether lists and objects lie within each other deeper than anything that is meant: 100 times."""
    level: list[Any] = [[value]]
    for _ in range(_DEEPEST):
        level = [inner for node in level for inner in _within(node) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _within(node: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node


def parse_json(text: str, where: str) -> Any:
    """What a JSON text holds.

    Args:
        where: for the message.

    Raises:
        InputError: it is not JSON, or nested deeper than anything that is meant.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}, line {error.lineno} column {error.colno})") from None
    except (ValueError, RecursionError):  # a number of thousands of digits
        raise InputError(f"{where}: not JSON that can be read (too deep, or a number of too many digits)") from None
    if too_deep(value):
        raise InputError(f"{where}: nested more than {_DEEPEST} times")
    return value


def raw_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends, whichever these are; one at a time, so that a file may be of any size.

    Raises:
        InputError: the file can't be read, or is no UTF-8.
    """
    if path.exists() and not path.is_file():
        raise InputError(
            f"can't read {path}: it is {'a folder' if path.is_dir() else 'no file, but a pipe or a device'}"
        )
    place = 0
    try:
        with path.open("rb") as file:
            for line in file:
                mark = len(codecs.BOM_UTF8) if not place and line.startswith(codecs.BOM_UTF8) else 0
                text = line[mark:].decode().replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
                yield from text.split("\n")
                place += len(line)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {place + mark + error.start}); save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from None


def _whole(path: Path) -> str:
    return "\n".join(raw_lines(path))


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file that are not blank, cleaned.

    Raises:
        InputError: the file can't be read.
    """
    return filter(None, map(clean, raw_lines(path)))


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every line of a JSONL file.

    Raises:
        InputError: the file can't be read, or a line is no JSON object, or one that was rejected.
    """
    for number, line in enumerate(raw_lines(path), 1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
        if {"reason", "raw"} <= row.keys():
            told = f"a row that was rejected ({shown(row['reason'])})"
            raise InputError(f"{path}, line {number}: {told}; leave *.rejected.jsonl out")
        yield number, row


def _id(value: Any, number: int) -> str:
    """A row's id, or its place where it has none that can be one."""
    fits = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value if fits else number).encode("utf-8", "backslashreplace").decode()


def _jsonl_texts(path: Path, keys: Sequence[str]) -> Iterator[Text]:
    for number, row in read_rows(path):
        asked = [key for key in keys if key != "target" or not row.get("context")]
        value = next((row[key] for key in asked if row.get(key)), None)
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                raise InputError(f"{path}, line {number}: no text under any of {', '.join(asked)}")
            yield Text(_id(row.get("id"), number), clean(text))


def _coco_texts(path: Path) -> Iterator[Text]:
    content = parse_json(_whole(path), str(path))
    annotations = content.get("annotations") if isinstance(content, dict) else None
    for number, annotation in enumerate(annotations if isinstance(annotations, list) else [None], 1):
        known = annotation if isinstance(annotation, dict) else {}
        if not isinstance(known.get("caption"), str) or "id" not in known:
            raise InputError(f"{path} is not a COCO caption file (annotations with id and caption)")
        yield Text(_id(known["id"], number), clean(known["caption"]))


def _texts_of(path: Path, keys: Sequence[str]) -> Iterator[Text]:
    kind = path.suffix.lower()
    if kind == ".jsonl":
        yield from _jsonl_texts(path, keys)
    elif kind == ".json":
        yield from _coco_texts(path)
    elif kind not in ("", ".txt"):
        raise InputError(
            f"{path}: expected .txt (a text a line), .jsonl (rows) or .json (COCO captions), not {path.suffix}"
        )
    else:
        yield from (Text(str(number), clean(line)) for number, line in enumerate(raw_lines(path), 1))


def read_texts(path: Path, keys: Sequence[str] = _KEYS) -> list[Text]:
    """The texts of a `.txt` (one a line), `.jsonl` (the first of `keys` that a row has) or COCO `.json` file.

    The target of a row with a context (a question, a hypothesis) is an answer, and none of its texts.

    Raises:
        InputError: the file is of another kind, can't be read, is broken, or holds no words.
    """
    texts = [text for text in _texts_of(path, keys) if words(text.text)]
    if not texts:
        raise InputError(f"{path} holds no text with words in it; expected one caption a line, or JSONL rows")
    return texts


def json_line(value: Mapping[str, Any]) -> bytes:
    """A JSON object as a line of a file; a lone surrogate becomes its JSON escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def builtin(folder: Path) -> list[str]:
    """The names of the TOML files of a folder."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read_toml(folder: Path, name: str) -> dict[str, Any]:
    """The content of the file `name`, or of `<name>.toml` in a folder of built-in ones.

    Raises:
        InputError: there is no such file or built-in name, or it is not TOML.
    """
    kind = folder.name.removesuffix("s")
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not path.exists():
        raise InputError(f"no {kind} {name!r}: give a TOML file or one of {', '.join(builtin(folder))}")
    text = _whole(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the {kind} {path} is not TOML: {error}") from None
    except (
        ValueError,
        RecursionError,
        AttributeError,
        TypeError,
    ):  # of tomllib: too many digits, too deep, impossible dates
        raise InputError(f"the {kind} {path} is not TOML that can be read") from None
    if too_deep(data):
        raise InputError(f"the {kind} {path} is nested more than {_DEEPEST} times")
    return data


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write a file under; when the block ends without an error it gets its own, else it is gone.

    After a kill the same call again takes away what was left.

    Raises:
        OutputError: it can't be written, or another process is writing it.
    """
    if not path.parent.is_dir():  # the lock would make it
        raise OutputError(f"can't write {path}: no folder {path.parent}")
    partial, lock = path.with_name(f".{path.name}.tmp"), FileLock(path.with_name(f".{path.name}.lock"))
    try:
        with lock.acquire(blocking=False):
            try:
                yield partial
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
                os.replace(partial, path)
            finally:
                with suppress(OSError):
                    partial.unlink()
                with suppress(OSError):  # while it is held, so that nobody waits for a file that is gone
                    Path(lock.lock_file).unlink()
    except DataGenError:
        raise
    except Timeout:
        raise OutputError(f"another process is writing {path}") from None
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}") from None
