"""Shots: the examples in a prompt, from a style or from a file."""

from __future__ import annotations

from pathlib import Path
from random import Random

from data_gen.errors import InputError
from data_gen.prompts.style import Style
from data_gen.text.files import read_rows, read_texts
from data_gen.text.language import Language
from data_gen.text.words import clean, words
from data_gen.verbs import Record, Row, Shot, Verb, text_of

__all__ = ["read_shots", "show", "style_shots"]


def style_shots(verb: Verb, style: Style, name: str) -> list[Shot]:
    """The shots that a style brings for a verb.

    Raises:
        InputError: a shot lacks an entry that the verb needs.
    """
    shots = []
    for number, table in enumerate(style.shots, 1):
        try:
            given, records = verb.shot(table)
        except InputError as error:
            raise InputError(f"the style {name!r}, shot {number}: {error} for {verb.name}") from None
        shots.append(Shot(f"{name}:{number}", given, tuple(records)))
    return shots


def read_shots(verb: Verb, path: Path, language: Language, keyword_count: int, seed: int) -> list[Shot]:
    """Shots from a file: plain captions where keywords are given, else the verb's own rows (JSONL).

    Args:
        keyword_count: words of each caption that are its keywords.
        seed: of their choice.

    Raises:
        InputError: unreadable, empty, or rows of another kind.
    """
    return (
        _caption_shots(verb, path, language, keyword_count, seed)
        if verb.is_keyword_driven()
        else _row_shots(verb, path)
    )


def _caption_shots(verb: Verb, path: Path, language: Language, keyword_count: int, seed: int) -> list[Shot]:
    shots = []
    for text in read_texts(path):
        found = list(dict.fromkeys(w for w in words(text.text) if language.is_keyword(w))) or words(text.text)
        rng = Random(f"{seed}:shot:{text.id}")
        chosen = sorted(rng.sample(range(len(found)), min(keyword_count, len(found))))
        shots.append(Shot(text.id, ", ".join(found[i] for i in chosen), ({verb.fields[0]: text.text},)))
    return shots


def _row_shots(verb: Verb, path: Path) -> list[Shot]:
    """One shot per source, or per text that a group of rows was made from."""
    groups: dict[str, list[Record]] = {}
    for number, row in read_rows(path):
        try:
            given, record = _given(verb, row), verb.record(row)
        except InputError as error:
            raise InputError(f"{path}, line {number}: not a row that {verb.name} writes ({error})") from None
        groups.setdefault(given, []).append({field: clean(text) for field, text in record.items()})
    joined = {given: verb.join(records) for given, records in groups.items()}
    whole = [Shot(str(n), given, tuple(records)) for n, (given, records) in enumerate(joined.items(), 1)]
    whole = [shot for shot in whole if all(set(record) == set(verb.fields) for record in shot.records)]
    if not whole:
        raise InputError(f"{path} holds no example for {verb.name}")
    return whole


def _given(verb: Verb, row: Row) -> str:
    """The text that a row was made from: of a group its own `given`, where the source may be what was written."""
    meta = row["meta"] if isinstance(row.get("meta"), dict) else {}
    if "group" in row and (verb.grouped or "given" in meta):
        return text_of(meta, "given")
    return text_of(row, "source")


def show(verb: Verb, shot: Shot) -> str:
    """A shot as it stands in a prompt."""
    lines = [f"{verb.given}: {shot.given}"]
    lines += [f"{name}: {record[name]}" for record in shot.records for name in verb.fields]
    return "\n".join(lines)
