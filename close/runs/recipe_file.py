"""A recipe's file and overrides as plain values, with places where they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from close.errors import DataError, MissingError, RecipeError
from close.io.plain import parse_yaml, read_yaml
from close.plugins import is_file

__all__ = ["read_values"]


def read_values(path: str | Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a recipe's file says, and `key=value` overrides of it; unchecked.

    Places in the file are relative to its folder and come out relative to the working directory, as those in overrides are.

    Raises:
        MissingError: no such file. RecipeError: not YAML, no mapping, or no override.
    """
    values = {} if path is None else _read(Path(path))
    for override in overrides:
        _set(values, override)
    return values


def _read(path: Path) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise MissingError(f"recipe {path}: no such file")
    try:
        values = read_yaml(path)
    except DataError as error:
        raise RecipeError(str(error)) from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, not {type(values).__name__}")
    data = values.get("data")
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, str) and key != "columns":
                data[key] = str(path.parent / value)
    for part in values["task"] if isinstance(values.get("task"), list) else []:
        for key in ("train", "embeddings"):
            if isinstance(part, dict) and isinstance(part.get(key), str):
                part[key] = str(path.parent / part[key])
    for key in ("encoder", "language_model"):
        if isinstance(values.get(key), str):
            values[key] = _on_disk(values[key], path.parent)
    if isinstance(values.get("plugins"), list):
        values["plugins"] = [_beside(name, path.parent) for name in values["plugins"]]
    if "adapter" in values:
        values["adapter"] = _relative(values["adapter"], path.parent)
    return values


def _beside(plugin: Any, folder: Path) -> Any:
    """A plug-in's file against the recipe's folder; modules as they are."""
    return str(folder / plugin) if isinstance(plugin, str) and is_file(plugin) else plugin


def _on_disk(reference: str, folder: Path) -> str:
    """A directory or checkpoint against the recipe's folder; other references as they are."""
    head, at, checkpoint = reference.rpartition("@")
    if at and os.path.isfile(folder / checkpoint):  # False, where a name is too long for a file, as pathlib's is not
        return f"{head}@{folder / checkpoint}"
    return str(folder / reference) if reference != "mini" and os.path.isdir(folder / reference) else reference


def _relative(spec: Any, folder: Path) -> Any:
    """The files that an adapter's `fit` and `load` name, against the recipe's folder."""
    if isinstance(spec, list):
        return [_relative(stage, folder) for stage in spec]
    if not isinstance(spec, dict):
        return spec
    found = {key: _relative(value, folder) for key, value in spec.items()}
    if isinstance(found.get("load"), str):
        found["load"] = str(folder / found["load"])
    if isinstance(found.get("fit"), dict):
        found["fit"] = {
            side: str(folder / place) if isinstance(place, str) else place for side, place in found["fit"].items()
        }
    return found


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"an override is key=value, e.g. training.epochs=3, not {override!r}")
    *path, last = key.split(".")
    place = values
    for part in path:
        if not isinstance(place.setdefault(part, {}), dict):
            raise RecipeError(f"override {override!r}: {part!r} is no section of the recipe")
        place = place[part]
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise RecipeError(f"override {override!r}: {text!r} is not a YAML value ({error})") from None
    if isinstance(value, str):  # YAML 1.1 reads 3e-4 as a string
        value = _number(value)
    place[last] = value


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
