"""How a request is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from data_gen.prompts.style import Style
from data_gen.text.language import Language
from data_gen.verbs import Verb

__all__ = ["compose", "instruct", "json_schema"]


def instruct(verb: Verb, style: Style, language: Language, many: int) -> str:
    """The first lines of a prompt; `many` records are asked for of each given text, 0 for verbs that make one."""
    parts = [verb.instruction.format(number=many), style.instruction]
    parts += [f"Write in {language.name}."] if language.name != "English" else []
    return " ".join(filter(None, parts))


def compose(verb: Verb, instruction: str, shown: Iterable[str], given: Sequence[str], structured: bool) -> str:
    """The prompt of a request.

    Args:
        instruction: from `instruct`.
        shown: shots, from `data_gen.prompts.shots.show`.
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
