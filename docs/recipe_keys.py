"""Keys of recipes and of rows with what they mean, from the classes that read them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from markdown_of import code
from one_a_line import one_a_line
from pydantic import BaseModel

__all__ = ["attributes", "recipe_keys"]


def recipe_keys() -> list[tuple[str, str, str, str]]:
    """Key, type, default and meaning of every key of a recipe, in the models' order."""
    from close.runs.recipe import Recipe
    from close.runs.sections import DataSection, LoraSection, RetrieveSection, TaskSection, TrainingSection

    sections: dict[str, type[BaseModel]] = {
        "": Recipe,
        "data.": DataSection,
        "task[].": TaskSection,
        "lora.": LoraSection,
        "retrieve.": RetrieveSection,
        "training.": TrainingSection,
    }
    found = []
    for prefix, model in sections.items():
        meanings = attributes(model)
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True) if not field.is_required() else None
            if isinstance(default, BaseModel):
                default = "as below"
            shown = "needed" if field.is_required() else "" if default is None else code(_default_of(default))
            found.append((f"{prefix}{name}", _kind(field.annotation), shown, meanings.get(name, "")))
    return found


def _default_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _kind(annotation: Any) -> str:
    """A type as a reader of recipes would say it."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:  # with limits, which the messages tell
        return _kind(inside[0])
    if origin is Literal:
        return ", ".join(map(str, inside))
    if origin in (Union, UnionType):
        return " | ".join(_kind(each) for each in inside if each is not NoneType)
    if inside:
        return f"{origin.__name__}[{', '.join(map(_kind, inside))}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {Path: "path", Any: "any"}.get(annotation) or annotation.__name__


def attributes(model: type, names: Sequence[str] = ()) -> dict[str, str]:
    """Name to meaning, of the documentation of a class and those that it is made from; `a, b: …` is said of both."""
    names = names or list(getattr(model, "model_fields", None) or model.__annotations__)
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        doc = one_a_line(inspect.cleandoc(part.__doc__ or ""), names)
        section = doc.partition("Attributes:\n")[2].partition("\n\n")[0]
        for entry in re.split(r"\n(?= {4}\w)", "\n" + section):
            said, _, meaning = entry.partition(":")
            found |= {name.strip(): " ".join(meaning.split()) for name in said.split(",")}
    return {name: meaning for name, meaning in found.items() if name in names}
