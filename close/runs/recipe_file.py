"""A recipe's file and overrides as plain values, with places where they are."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from close.errors import DataError, MissingError, RecipeError, shown
from close.io.places import last_part, moved_reference, seen_from, seen_through
from close.io.plain import parse_yaml, read_yaml
from close.plugins import is_file
from close.runs.slips import Slips

__all__ = ["absolute", "named", "number", "portable", "portable_reference", "read_values", "relative", "seen_in"]


def read_values(path: str | Path | None, overrides: str | Sequence[str] = ()) -> dict[str, Any]:
    """What a recipe's file says, and `key=value` overrides of it; unchecked.

    Places in the file are relative to its folder and come out relative to the working directory, as those in overrides are.

    Raises:
        MissingError: no such file. RecipeError: not YAML, no mapping, or no override.
    """
    if not isinstance(path, (str, Path, type(None))):
        raise RecipeError(f"a recipe is a file, or None and 'key=value' of all that it would say, not {shown(path)}")
    values = {} if path is None else _read(Path(path))
    slips = Slips()
    for override in [overrides] if isinstance(overrides, str) else overrides:
        with slips.kept():
            _set(values, override)
    slips.tell()
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
    folder = path.parent
    return _with_places(values, lambda place: str(folder / place), folder)


def portable(values: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    """A recipe's values with every place relative to `folder`, so that they mean the same wherever both are moved together.

    What has nothing but the root in common with it is named by its last part alone: where it lies is this machine's own affair.
    """
    return _with_places(copy.deepcopy(values), lambda place: seen_from(place, folder) or last_part(place), Path())


def named(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values with every place by its last part alone."""
    return _with_places(copy.deepcopy(values), last_part, Path())


def portable_reference(reference: str, folder: str | Path) -> str:
    """One reference of a model, as in `portable`."""
    return moved_reference(reference, lambda place: seen_from(place, folder) or last_part(place))


def relative(values: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    """A recipe's values with every place as seen from `folder`: alike from any working directory, and others for others."""
    return _with_places(copy.deepcopy(values), lambda place: seen_through(place, folder), Path())


def seen_in(values: dict[str, Any], folder: str) -> dict[str, Any]:
    """A recipe's values, whose places are relative to a folder, with every one in full."""
    return _with_places(copy.deepcopy(values), lambda place: os.path.join(folder, place), Path(folder))


def absolute(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values with every place in full, whatever the working directory is."""
    return _with_places(copy.deepcopy(values), os.path.abspath, Path())


def _with_places(values: dict[str, Any], moved: Callable[[str], str], base: Path) -> dict[str, Any]:
    """The values, whose places are `moved`.

    Args:
        base: where what a reference names is looked for, to know whether it names a place at all.
    """
    data = values.get("data")
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, str) and key != "columns":
                data[key] = moved(value)
    for part in values["task"] if isinstance(values.get("task"), list) else []:
        for key in ("train", "embeddings"):
            if isinstance(part, dict) and isinstance(part.get(key), str):
                part[key] = moved(part[key])
    training = values["training"] if isinstance(values.get("training"), dict) else {}
    for key in ("deepspeed", "fsdp_config", "accelerator_config"):
        if isinstance(training.get(key), str) and training[key].endswith(".json"):
            training[key] = moved(training[key])
    retrieve = values["retrieve"] if isinstance(values.get("retrieve"), dict) else {}
    for section, key in ((values, "encoder"), (values, "language_model"), (retrieve, "encoder")):
        if isinstance(section.get(key), str):
            section[key] = moved_reference(section[key], moved, base)
    for key in ("memory", "texts", "language"):
        if isinstance(retrieve.get(key), str) and (key != "language" or retrieve[key].endswith(".toml")):
            retrieve[key] = moved(retrieve[key])
    if isinstance(values.get("init_from"), str):
        values["init_from"] = moved(values["init_from"])
    if isinstance(values.get("plugins"), list):
        values["plugins"] = [
            moved(name) if isinstance(name, str) and is_file(name) else name for name in values["plugins"]
        ]
    if "adapter" in values:
        values["adapter"] = _moved_tables(values["adapter"], moved)
    return values


def _moved_tables(spec: Any, moved: Callable[[str], str]) -> Any:
    """The files that an adapter's `fit` and `load` name, moved."""
    if isinstance(spec, list):
        return [_moved_tables(stage, moved) for stage in spec]
    if not isinstance(spec, dict):
        return spec
    found = {key: _moved_tables(value, moved) for key, value in spec.items()}
    if isinstance(found.get("load"), str):
        found["load"] = moved(found["load"])
    if isinstance(found.get("fit"), dict):
        found["fit"] = {side: moved(place) if isinstance(place, str) else place for side, place in found["fit"].items()}
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
    place[last] = number(value)


def number(value: Any) -> Any:
    """A value that was given as YAML, which reads 3e-4 as a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
