"""How an answer is read. What can't be read gives no record: never a piece of it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import json_repair

from data_gen.text.thoughts import is_chat, without_thought
from data_gen.text.words import clean
from data_gen.verbs import Record

__all__ = ["EMPTY", "OPEN_THOUGHT", "Reading", "parse"]

EMPTY, OPEN_THOUGHT = "empty", "a thought that was not closed"

_FENCE = re.compile(r"^\s*(?:```|~~~)[\w-]*\s*$", re.MULTILINE)
_BULLET = re.compile(r"^\s*(?:[-*•–>]|\(?\d+[.):])\s+|^\s*(?:\(?\d+[、．）]|[①-⑳])\s*")
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "'": "'", "「": "」", "『": "』", "‹": "›"}
_JSON = re.compile(r"""(?:^|(?<=[:\n`]))[ \t]*[\[{]|[\[{]\s*["'“{\[]""")  # a line begins with it, or a string is in it
_WORD_AFTER = re.compile(r"\[\s*[^\W\d_]")
_SYNTAX = re.compile(r"""[{}\[\]\\]|["'”]\s*[:,]\s*["'“]""")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)")
_CLOSED = re.compile(r"""[}\]][^{}\[\]"“”]*\Z""")
_HEADING = re.compile(r"^\s*#{1,6}\s")
_LETTER = re.compile(r"\w")
_ENDED = re.compile(r"[.!?…:。！？：][\s\"'”’»*)]*\Z")
_HEADED = re.compile(r"[\w* ]{1,40}[:：]")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_PLACEHOLDER = re.compile(r"[.…<>\s]*")
_MENDABLE = 100_000
"""Characters: mending takes more than linear time, and no answer that is worth it is longer."""


@dataclass(frozen=True)
class Reading:
    """What an answer holds.

    Attributes:
        records: in order; none where it can't be read.
        why: there is none.
        mended: whether its JSON was broken, and mended.
    """

    records: list[Record]
    why: str = ""
    mended: bool = False


def parse(answer: str, fields: Sequence[str], given: str = "", *, one: bool = False) -> Reading:
    """The records in an answer: JSON anywhere in it, else labelled, numbered or bare lines.

    Thoughts, introductions, code fences, headings, bullets and quotes are dropped. Records that lack a field are left
    out. Where JSON was begun, lines are not read: broken JSON is mended (by json-repair), unless it was cut off. A sentence
    that goes on in the next line is one.

    Args:
        answer: of the model.
        fields: of a record.
        given: how the prompt names what is given; a model that goes on with a prompt of its own making ends there.
        one: whether a single record was asked for, so that lines without a label or bullet need not be a record each.
    """
    text = without_thought(answer)
    if text is None:
        return Reading([], OPEN_THOUGHT)
    text = _BOXED.sub(r"\1", _FENCE.sub("", text))
    if not text.strip():
        return Reading([], EMPTY)
    key = None if _JSON.search(text) else re.search(rf"[\"“]({'|'.join(map(re.escape, fields))}|items)[\"”]\s*:", text)
    if key:  # its brace was lost
        text = f"{{{text[key.start() :]}}}"
    if _JSON.search(text):
        return _read_json(text, fields)
    lines = [line for line in text.splitlines() if _LETTER.search(line) and not _HEADING.match(line)]
    if given:
        own = re.compile(rf"^[\W\d_]*{re.escape(given)}\s*[:：]", re.IGNORECASE)
        lines = lines[1:] if lines and own.match(lines[0]) else lines
        lines = list(itertools.takewhile(lambda line: not own.match(line), lines))
    lines = _filled(lines, _label(fields))
    while lines and (lines[0].rstrip(" *").endswith((":", "：")) or (len(lines) > 1 and is_chat(lines[0]))):
        if _label(fields).match(lines[0]):
            break
        lines = lines[1:]
    records = list(_labelled(lines, fields)) if len(fields) > 1 else _bare(lines, fields[0], one)
    return Reading(records, "" if records else f"no {' and '.join(fields)} in it" if lines else EMPTY)


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_json(text: str, fields: Sequence[str]) -> Reading:
    values, mended, place = [], False, 0
    while match := _JSON.search(text, place):
        start = next(i for i in range(match.start(), match.end()) if text[i] in "[{")
        try:
            value, place = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            if _WORD_AFTER.match(text, start) and _JSON.search(text, match.end()):
                place = match.end()  # "[see below]": the JSON begins later
                continue
            value, mended = _mend(text[start:]), True
            if value is None:
                return Reading([], "broken JSON")
            place = len(text)
        values.append(value)
    records = list(_from_json(values, fields))
    if mended and not _plausible(text, records, values, fields):
        return Reading([], "broken JSON")
    records = [record for record in records if not all(map(_PLACEHOLDER.fullmatch, record.values()))]
    why = "" if records else EMPTY if not any(_strings(values)) else f"JSON without {' and '.join(fields)}"
    return Reading(records, why, mended and bool(records))


def _plausible(text: str, records: Sequence[Record], values: Any, fields: Sequence[str]) -> bool:
    """Whether mended JSON can be trusted: each text ends in the answer where a text ends, and no JSON is left in it."""
    names = re.compile(rf"({'|'.join(map(re.escape, fields))}|items)([\"'”:]|\W*\Z)")
    parts = [part for record in records for part in record.values()]
    loose = sum(isinstance(value, str) for value in _beside(values)) if len(fields) == 1 else 0
    if loose not in (0, len(records)) or any(_SYNTAX.search(part) or names.search(part) for part in parts):
        return False
    source = clean(_ESCAPE.sub(_unescaped, text))
    ends = r"""(?:(["'“”])[\s*«‹„]*|(?<!["'“”])){}[\s*»›“]*(?(1)["'“”]\s*(?:[,;}}\]/#"'“]|$)|[,}}\]])"""
    return all(re.search(ends.format(re.escape(part)), source) for part in parts)


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else " " if match[2] in "nrtbf" else match[2]


def _beside(value: Any) -> Iterator[Any]:
    """What lies in the lists of a JSON value."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from [inner] if isinstance(value, list) else []
        yield from _beside(inner)


def _mend(text: str) -> Any:
    """What broken JSON was meant to be; None where nobody knows, or where it was cut off."""
    if len(text) > _MENDABLE or not _CLOSED.search(text) or not re.search("[\"'“]", text):
        return None
    try:
        return json_repair.loads(text, skip_json_loads=True) or None
    except (ValueError, RecursionError, IndexError, TypeError, KeyError):
        return None


def _from_json(value: Any, fields: Sequence[str], known: bool = True) -> Iterator[Record]:
    """Every record in a JSON value: an object with all fields, or a string where there is only one field.

    Args:
        known: whether the value lies where a record is expected: in a list, or under the field's name or `items`.
    """
    if isinstance(value, dict):
        found = {
            name: _text(value[key]) for name in fields for key in value if key.strip().casefold() == name.casefold()
        }
        if len(found) == len(fields) and None not in found.values():
            yield {name: _unquote(text) for name, text in found.items() if text is not None}
            return
        name = re.compile(rf"items|\d+|({'|'.join(map(re.escape, fields))})s?[\s_]*\d*", re.IGNORECASE)
        named = [inner for key, inner in value.items() if name.fullmatch(key)]
        for inner in named or value.values():
            yield from _from_json(inner, fields, bool(named) or isinstance(inner, list))
    elif isinstance(value, list):
        for inner in value:
            yield from _from_json(inner, fields)
    elif isinstance(value, str) and len(fields) == 1 and known:
        yield {fields[0]: _unquote(value)}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else None


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _unquote(text: str) -> str:
    text = clean(text).strip("*").strip()
    inner = text[1:-1]
    quoted = len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in inner and text[-1] not in inner
    return inner.strip() if quoted else text


def _label(fields: Sequence[str]) -> re.Pattern[str]:
    """A field's name before a colon."""
    return re.compile(rf"^[\W\d_]*({'|'.join(map(re.escape, fields))})[\s\d*]*[:：]\s*\**(.*)$", re.IGNORECASE)


def _filled(lines: Sequence[str], label: re.Pattern[str]) -> list[str]:
    """Lines of which a label that stands alone was put before the next one."""
    filled: list[str] = []
    for line in lines:
        match = label.match(filled[-1]) if filled else None
        if match and not match[2].strip(" *") and not label.match(line):
            filled[-1] += f" {_BULLET.sub('', line)}"
        else:
            filled.append(line)
    return filled


def _labelled(lines: Sequence[str], fields: Sequence[str]) -> Iterator[Record]:
    """Records of `field: text` lines; a line without label before the first one answers the first field."""
    label = _label(fields)
    lines = _unbroken(lines, label, least=4)
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


def _unbroken(lines: Sequence[str], label: re.Pattern[str], *, one: bool = False, least: int = 1) -> list[str]:
    """Lines of which one that goes on, in lower case, with a sentence that has no end yet was put behind its beginning.

    A sentence begins in upper case, behind a label or a bullet; where there is `one` text, without them too. With fewer
    than `least` words it is a short answer ("Two"), and no line that was wrapped.
    """
    unbroken: list[str] = []
    for line in lines:
        before = unbroken[-1] if unbroken else ""
        item = _BULLET.sub("", before)
        labelled = label.match(item)
        text = re.split("[:：]", item, maxsplit=1)[-1] if labelled else item
        first = _LETTER.search(text) if len(text.split()) >= least else None
        begun = (one or labelled or item != before) and first and first[0].isupper() and not _ENDED.search(before)
        goes_on = line.lstrip()[:1].islower() and not _HEADED.match(line.lstrip()) and not is_chat(line)
        if begun and goes_on:
            unbroken[-1] += f" {line}"
        else:
            unbroken.append(line)
    return unbroken


def _bare(lines: Sequence[str], field: str, one: bool) -> list[Record]:
    """A record a line: of the labelled ones where there are any, else of the bulleted ones, else of all."""
    names = f"{re.escape(field)}|(?:final )?answer|output|response"
    label = re.compile(rf"^[\s*]*(?:{names})[\s\d*]*[:：]\s*\**", re.IGNORECASE)
    lines = _unbroken(lines, label, one=one)
    bulleted = [_BULLET.sub("", line) for line in lines if _BULLET.match(line)]
    bare = [_BULLET.sub("", line) for line in lines]
    labelled = [line for line in bare if label.match(line)]
    chosen = labelled or (bulleted if len(bulleted) > 1 else bare)
    return [{field: _unquote(label.sub("", line))} for line in chosen]
