"""How an answer is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from data_gen.text.words import clean
from data_gen.verbs import Record

__all__ = ["parse"]

_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^\s*```\w*\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d+[.):])\s+")
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "'": "'"}


def _unquote(text: str) -> str:
    text = clean(text).strip("*").strip()
    inner = text[1:-1]
    quoted = len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in inner and text[-1] not in inner
    return inner.strip() if quoted else text


def _from_json(value: Any, fields: Sequence[str]) -> Iterator[Record]:
    """Every record in a JSON value: an object with all fields, or a string where there is only one field."""
    if isinstance(value, dict):
        if all(isinstance(value.get(name), str) for name in fields):
            yield {name: _unquote(value[name]) for name in fields}
        else:
            for inner in value.values():
                yield from _from_json(inner, fields)
    elif isinstance(value, list):
        for inner in value:
            yield from _from_json(inner, fields)
    elif isinstance(value, str) and len(fields) == 1:
        yield {fields[0]: _unquote(value)}


def _json_in(text: str) -> Any:
    starts = [i for i in (text.find("{"), text.find("[")) if i >= 0]
    try:
        return json.JSONDecoder().raw_decode(text, min(starts))[0]
    except (ValueError, RecursionError):
        return None


def _labelled(lines: Sequence[str], fields: Sequence[str]) -> Iterator[Record]:
    """Records of `field: text` lines; a line without label before the first one answers the first field."""
    label = re.compile(rf"^[\W\d_]*({'|'.join(map(re.escape, fields))})[\s\d*]*[:：]\s*\**(.*)$", re.IGNORECASE)
    names = {field.casefold(): field for field in fields}
    record: Record = {}
    for line in lines:
        match = label.match(line)
        name, value = (names.get(match[1].casefold(), match[1]), match[2]) if match else (fields[0], line)
        if not match and record:
            continue
        if name in record:
            record = {}
        record[name] = _unquote(value)
        if set(record) == set(fields):
            yield record
            record = {}


def parse(answer: str, fields: Sequence[str]) -> list[Record]:
    """The records in an answer: JSON anywhere in it, else labelled, numbered or bare lines.

    Introductions that end with a colon, code fences, `<think>` parts, bullets and quotes are dropped. Records that lack
    a field are left out.
    """
    answer = _THOUGHT.sub("", answer)
    fenced = _FENCE.match(answer)
    answer = fenced[1] if fenced else answer
    if "{" in answer or "[" in answer:
        records = list(_from_json(_json_in(answer), fields))
        if records:
            return records
    lines = [line for line in answer.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].rstrip().endswith((":", "：")):
        lines = lines[1:]
    if len(fields) > 1:
        return list(_labelled(lines, fields))
    label = re.compile(rf"^[\s*]*{re.escape(fields[0])}[\s\d*]*[:：]\s*\**", re.IGNORECASE)
    bare = [_BULLET.sub("", line) for line in lines]
    labelled = [line for line in bare if label.match(line)]
    return [{fields[0]: _unquote(label.sub("", line))} for line in labelled or bare]
