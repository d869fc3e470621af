"""Prompts: styles, shots, how a request is written and how an answer is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from data_gen.errors import InputError
from data_gen.text.files import clean, read_rows, read_texts, words
from data_gen.text.language import Language, read_toml
from data_gen.verbs.base import Record, Verb

__all__ = [
    "Shot",
    "Style",
    "compose",
    "instruct",
    "json_schema",
    "load_style",
    "parse",
    "read_shots",
    "show",
    "style_shots",
]

_FOLDER = Path(__file__).parent / "styles"
_SAMPLING = {"temperature", "top_p", "frequency_penalty", "presence_penalty", "best_of", "top_k", "min_p"}


@dataclass(frozen=True)
class Shot:
    """An example in the prompt: what is given, and the records that answer it."""

    id: str
    given: str
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Style:
    """How the text is to be: one TOML file.

    Attributes:
        instruction: added to the verb's own.
        shots: tables of the file; for captions and rewriting with `keywords`, `plain` and `text`, else with `given`
            and `records`.
        names: of which one is put before the keywords of every request (the characters of a story).
        max_tokens: for one answer.
        min_words, max_words: what the `length` filter removes when it is asked for.
        sampling: passed on to the server: temperature, top_p, frequency_penalty, …
    """

    instruction: str = ""
    shots: tuple[dict[str, Any], ...] = ()
    names: tuple[str, ...] = ()
    max_tokens: int = 64
    min_words: int = 1
    max_words: int = 60
    sampling: dict[str, float] = field(default_factory=dict)


def load_style(name: str) -> Style:
    """The style of a TOML file or of a built-in name.

    Raises:
        InputError: unknown, not TOML, an unknown entry, or a value of the wrong kind.
    """
    data = read_toml(_FOLDER, name)
    limits, sampling = data.pop("limits", {}), data.pop("sampling", {})
    for part, known in ((data, {"instruction", "shots", "names"}), (sampling, _SAMPLING)):
        if unknown := sorted(set(part) - known):
            raise InputError(
                f"the style {name!r} has an unknown entry {unknown[0]!r}; known: {', '.join(sorted(known))}"
            )
    if not all(isinstance(value, int) and value > 0 for value in limits.values()):
        raise InputError(f"the style {name!r}: every limit is a whole number above 0, got {limits}")
    if not all(isinstance(shot, dict) for shot in data.get("shots", [])):
        raise InputError(f"the style {name!r}: every shot is a table ([[shots]])")
    try:
        return Style(
            instruction=clean(data.get("instruction", "")),
            shots=tuple(data.get("shots", ())),
            names=tuple(data.get("names", ())),
            sampling=sampling,
            **limits,
        )
    except TypeError:
        raise InputError(
            f"the style {name!r}: limits are max_tokens, min_words and max_words, got {sorted(limits)}"
        ) from None


def style_shots(verb: Verb, style: Style, name: str) -> list[Shot]:
    """The shots that a style brings for a verb; none where its shots are for other verbs.

    Raises:
        InputError: a shot lacks an entry that the verb needs.
    """
    shots = []
    for number, table in enumerate(style.shots, 1):
        try:
            if verb.name == "captions":
                shot = Shot(f"{name}:{number}", ", ".join(table["keywords"]), ({"caption": table["text"]},))
            elif verb.name == "rewrite":
                shot = Shot(f"{name}:{number}", table["plain"], ({"rewritten": table["text"]},))
            else:
                records = tuple({f: str(record[f]) for f in verb.fields} for record in table["records"])
                shot = Shot(f"{name}:{number}", table["given"], records)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"the style {name!r}, shot {number}: {error} is missing or wrong for {verb.name}"
            ) from None
        shots.append(shot)
    return shots


def read_shots(verb: Verb, path: Path, language: Language, keyword_count: int, seed: int) -> list[Shot]:
    """Shots from a file: plain captions for `captions`, else the verb's own rows (JSONL), one shot per source or group.

    Raises:
        InputError: unreadable, empty, or rows of another kind.
    """
    if verb.keyword_driven:
        shots = []
        for text in read_texts(path):
            found = list(dict.fromkeys(w for w in words(text.text) if language.is_keyword(w))) or words(text.text)
            rng = Random(f"{seed}:shot:{text.id}")
            chosen = sorted(rng.sample(range(len(found)), min(keyword_count, len(found))))
            shots.append(Shot(text.id, ", ".join(found[i] for i in chosen), ({"caption": text.text},)))
        return shots
    groups: dict[str, list[Record]] = {}
    for number, row in read_rows(path):
        try:
            given = str(row["meta"]["given"] if "group" in row else row["source"])
            groups.setdefault(given, []).append({k: clean(v) for k, v in verb.record(row).items()})
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise InputError(
                f"{path}, line {number}: not a row that {verb.name} writes ({error} is missing or wrong)"
            ) from None
    if verb.name == "entailment":
        groups = {given: [{k: v for record in records for k, v in record.items()}] for given, records in groups.items()}
    whole = [Shot(str(n), given, tuple(records)) for n, (given, records) in enumerate(groups.items(), 1)]
    whole = [shot for shot in whole if all(set(record) == set(verb.fields) for record in shot.records)]
    if not whole:
        raise InputError(f"{path} holds no example for {verb.name}")
    return whole


def show(verb: Verb, shot: Shot) -> str:
    """A shot as it stands in a prompt."""
    lines = [f"{verb.given}: {shot.given}"]
    lines += [f"{name}: {record[name]}" for record in shot.records for name in verb.fields]
    return "\n".join(lines)


def instruct(verb: Verb, style: Style, language: Language, many: int) -> str:
    """The first lines of a prompt; `many` records are asked for of each given text, 0 for verbs that make one."""
    parts = [verb.instruction.format(number=many), style.instruction]
    parts += [f"Write in {language.name}."] if language.name != "English" else []
    return " ".join(filter(None, parts))


def compose(verb: Verb, instruction: str, shown: Iterable[str], given: Sequence[str], structured: bool) -> str:
    """The prompt of a request.

    Args:
        instruction: from `instruct`.
        shown: shots, from `show`.
        given: one text or list of keywords, or several where `structured`.
        structured: ask for JSON. Otherwise the prompt ends with the label of the first field, CLOSE's in-context format,
            which a model that only continues text can answer.
    """
    if not structured:
        return "\n\n".join([instruction, *shown, f"{verb.given}: {given[0]}\n{verb.fields[0]}:"])
    several = len(given) > 1
    asked = [f"{n}. {verb.given}: {text}" if several else f"{verb.given}: {text}" for n, text in enumerate(given, 1)]
    example = ", ".join(f'"{name}": "…"' for name in verb.fields)
    each = ", one item for each line above, in order" if several else ""
    return "\n\n".join(
        [instruction, *shown, "\n".join(asked), f'Answer with JSON only{each}: {{"items": [{{{example}}}]}}']
    )


def json_schema(verb: Verb) -> dict[str, Any]:
    """The JSON schema of a structured answer: `{"items": [{field: text}]}`."""
    item = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in verb.fields},
        "required": list(verb.fields),
        "additionalProperties": False,
    }
    items = {"type": "array", "items": item}
    return {"type": "object", "properties": {"items": items}, "required": ["items"], "additionalProperties": False}


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
    label = re.compile(rf"^[\W\d_]*({'|'.join(fields)})[\s\d*]*[:：]\s*\**(.*)$", re.IGNORECASE)
    record: Record = {}
    for line in lines:
        match = label.match(line)
        name, value = (match[1].lower(), match[2]) if match else (fields[0], line)
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
    label = re.compile(rf"^[\s*]*{fields[0]}[\s\d*]*[:：]\s*\**", re.IGNORECASE)
    bare = [_BULLET.sub("", line) for line in lines]
    labelled = [line for line in bare if label.match(line)]
    return [{fields[0]: _unquote(label.sub("", line))} for line in labelled or bare]
