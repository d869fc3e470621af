"""Files of texts, of rows and of settings; and files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_gen.errors import DataGenError, InputError, OutputError
from data_gen.text.words import clean, words

__all__ = ["Text", "builtin", "json_line", "read_lines", "read_rows", "read_texts", "read_toml", "whole"]

_KEYS = ("target", "source", "caption", "text")


@dataclass(frozen=True)
class Text:
    """A text with the id that it has in its file: the row's `id`, or else the line number."""

    id: str
    text: str


def _open(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, cleaned.

    Raises:
        InputError: the file can't be read.
    """
    return [line for line in map(clean, _open(path).split("\n")) if line]


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of every line of a JSONL file.

    Raises:
        InputError: the file can't be read, or a line is no JSON object.
    """
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


def _jsonl_texts(path: Path, keys: Sequence[str]) -> Iterator[Text]:
    for number, row in read_rows(path):
        value = next((row[key] for key in keys if row.get(key)), None)
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                raise InputError(f"{path}, line {number}: no text under any of {', '.join(keys)}")
            yield Text(str(row.get("id", number)), clean(text))


def _coco_texts(path: Path) -> Iterator[Text]:
    try:
        content = json.loads(_open(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON (line {error.lineno}: {error.msg})") from None
    annotations = content.get("annotations") if isinstance(content, dict) else None
    for annotation in annotations if isinstance(annotations, list) else [None]:
        known = annotation if isinstance(annotation, dict) else {}
        if not isinstance(known.get("caption"), str) or "id" not in known:
            raise InputError(f"{path} is not a COCO caption file (annotations with id and caption)")
        yield Text(str(known["id"]), clean(known["caption"]))


def _texts_of(path: Path, keys: Sequence[str]) -> Iterator[Text]:
    if path.suffix == ".jsonl":
        yield from _jsonl_texts(path, keys)
    elif path.suffix == ".json":
        yield from _coco_texts(path)
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
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no {kind} {name!r}: give a TOML file or one of {', '.join(builtin(folder))}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't read the {kind} {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the {kind} {path} is not TOML: {error}") from None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write a file under; when the block ends without an error it gets its own, else it is gone.

    Raises:
        OutputError: it can't be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield partial
        os.replace(partial, path)
    except DataGenError:
        raise
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink()
