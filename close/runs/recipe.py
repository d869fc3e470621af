"""A training run on one page: a YAML file, validated whole before any work starts."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from close.adapters import check_adapter
from close.errors import CloseError, MissingError, RecipeError
from close.model.prefixes import build_prefix
from close.plugins import is_file, load_plugins
from close.registry import unknown_name
from close.tasks import TASKS

__all__ = ["DataSection", "LoraSection", "Recipe", "TaskSection", "TrainingSection", "load_recipe", "upgraded"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Section):
    """Where the rows are.

    Attributes:
        train: rows to learn from (`.jsonl`, `.txt`, `.csv`). val: rows whose loss is watched.
        embeddings: an embedding table of the train rows, made before; without it, one is made and cached.
    """

    train: Path | None = None
    val: Path | None = None
    embeddings: Path | None = None


class TaskSection(_Section):
    """One task of several that one model learns.

    Attributes:
        task: its name. train: its rows. embeddings: their table, if made before.
        weight: how often an example is seen per epoch: 2 is twice, 0.5 a random half that changes every epoch.
        captions: as in the recipe.
    """

    task: str
    train: Path
    embeddings: Path | None = None
    weight: float = Field(1.0, gt=0)
    captions: Literal["single", "multiple"] = "single"


class LoraSection(_Section):
    """Low-rank adaptation of the language model by peft; merged into the saved run."""

    r: int = Field(16, ge=1)
    alpha: float = 32
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str = r"language_model\..*\.(q|v|q_proj|v_proj)"


_OURS = {
    "output_dir": "--out",
    "num_train_epochs": "training.epochs",
    "per_device_train_batch_size": "training.batch_size",
    "bf16": "training.precision",
    "fp16": "training.precision",
    "seed": "seed",
    "data_seed": "seed",
}


def _is_a(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError:
        return False
    return True


def _kind_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


class TrainingSection(BaseModel):
    """The paper's settings; every other field of transformers' Seq2SeqTrainingArguments may be given beside them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    epochs: float = Field(8, gt=0)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(3e-4, gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    report_to: str | list[str] = "none"

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        from transformers import Seq2SeqTrainingArguments

        if not isinstance(values, dict):
            return values
        known = {field.name for field in fields(Seq2SeqTrainingArguments)} - set(_OURS) | set(cls.model_fields)
        wrong = [f"key {key!r} is {_OURS[key]!r} here" for key in values if key in _OURS]
        wrong += [str(unknown_name("key", str(key), known)) for key in values if key not in known | set(_OURS)]
        kinds = get_type_hints(Seq2SeqTrainingArguments) | {"fsdp": bool | str}  # annotated as str, documented as bool
        wrong += [
            f"{key}: expected {_kind_name(kinds[key])}, not {value!r}"
            for key, value in values.items()
            if key in known - set(cls.model_fields) and not _is_a(kinds[key], value)
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return values


class Recipe(_Section):
    """Everything that decides a run.

    Attributes:
        task: caption, vqa, vqa_e, entailment, news, or one's own; or a list of `{task, train, weight}` learnt by one model.
        encoder: reference of the contrastive encoder. language_model: `mini`, hub id or local directory.
        prefix: what makes the prefix: `{kind, length}` and the kind's own options, or a kind's name.
        adapter: how the gap is crossed: a name, `{name: options}`, or a list of these.
        train_on: "text", or "image" for the image-supervised ceiling.
        plugins: modules and files with one's own parts; `load_recipe` imports them before it looks at the rest.
        captions: "single": the caption itself is the target; "multiple": every other caption of its group.
    """

    task: str | list[TaskSection] = "caption"
    data: DataSection = Field(default_factory=lambda: DataSection())
    encoder: str = "mini"
    language_model: str = "mini"
    prefix: dict[str, Any] = Field(default_factory=lambda: {"kind": "linear", "length": 4})
    adapter: Any = Field(default_factory=lambda: [{"gaussian": {"cosine": 0.41}}])
    train_on: Literal["text", "image"] = "text"
    captions: Literal["single", "multiple"] = "single"
    lora: LoraSection | None = None
    training: TrainingSection = Field(default_factory=lambda: TrainingSection())
    seed: int = Field(0, ge=0, lt=2**32, strict=True)
    plugins: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _older(cls, values: Any) -> Any:
        return upgraded(values) if isinstance(values, dict) else values

    @field_validator("prefix", mode="before")
    @classmethod
    def _prefix(cls, spec: Any) -> Any:
        if isinstance(spec, str):
            spec = {"kind": spec}
        if not isinstance(spec, dict) or not isinstance(spec.get("kind", ""), str):
            raise ValueError(f"prefix is {{kind: NAME, length: NUMBER}}, not {spec!r}")
        spec = {"kind": "linear", "length": 4} | spec
        with torch.device("meta"):
            build_prefix(spec, 8, 8)
        return spec

    @field_validator("task")
    @classmethod
    def _task(cls, task: str | list[TaskSection]) -> str | list[TaskSection]:
        if not task:
            raise ValueError("expected a task, or a list of at least one")
        for name in [task] if isinstance(task, str) else [part.task for part in task]:
            TASKS[name]
        return task

    @model_validator(mode="after")
    def _has_data(self) -> Recipe:
        if isinstance(self.task, str) and self.data.train is None:
            raise ValueError("key 'data.train' is missing")
        if not isinstance(self.task, str) and (self.data.train or self.data.embeddings):
            raise ValueError(
                "with a list of tasks, each names its own 'train' (and 'embeddings'); leave them out of 'data'"
            )
        return self

    def parts(self) -> list[TaskSection]:
        """The tasks with their data; one, for a recipe of one task."""
        if not isinstance(self.task, str):
            return self.task
        own = {
            "task": self.task,
            "train": self.data.train,
            "embeddings": self.data.embeddings,
            "captions": self.captions,
        }
        return [TaskSection.model_validate(own)]

    @field_validator("adapter")
    @classmethod
    def _adapter(cls, spec: Any) -> Any:
        check_adapter(spec)
        return spec

    def dump(self) -> dict[str, Any]:
        """As plain values, for YAML and JSON."""
        return self.model_dump(mode="json")


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe of an older version in today's keys.

    Raises:
        RecipeError: the old and the new key are both there and differ.
    """
    if "prefix_length" not in values:
        return values
    length = values["prefix_length"]
    prefix = values.get("prefix", {})
    prefix = {"kind": prefix} if isinstance(prefix, str) else prefix
    if isinstance(prefix, dict):
        if prefix.get("length", length) != length:
            raise RecipeError(
                f"prefix_length is {length!r} and prefix says length {prefix['length']!r}; leave prefix_length out"
            )
        prefix = {"kind": "linear"} | prefix | {"length": length}
    return {key: value for key, value in values.items() if key != "prefix_length"} | {"prefix": prefix}


def load_recipe(path: str | Path | None, overrides: list[str] | None = None) -> Recipe:
    """A recipe from its file and `key=value` overrides (`training.epochs=3`, `adapter='{gaussian: {cosine: 0.3}}'`).

    Paths in the file are relative to its folder, those in overrides to the working directory.

    Raises:
        MissingError: no such file.
        RecipeError: every wrong key or value, with the nearest name of an unknown key.
    """
    values = _read(Path(path)) if path is not None else {}
    for override in overrides or []:
        _set(values, override)
    load_plugins(_plugins(values.get("plugins"), path))
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        where = f"{path}: " if path is not None else "recipe: "
        items = [item for item in error.errors() if item["loc"] != ("task", "str")]  # one branch of a union is enough
        raise RecipeError(where + "; ".join(map(_explain, items))) from None
    except CloseError as error:
        raise RecipeError(f"{path or 'recipe'}: {error}") from None


def _plugins(given: Any, path: str | Path | None) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise RecipeError(
            f"{path or 'recipe'}: plugins is a list of modules and files, e.g. [./my_parts.py], not {given!r}"
        )
    return given


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingError(f"recipe {path}: no such file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values, not {type(values).__name__}")
    data = values.get("data")
    if isinstance(data, dict):
        for key, value in data.items():
            if isinstance(value, str):
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
    if at and (folder / checkpoint).is_file():
        return f"{head}@{folder / checkpoint}"
    return str(folder / reference) if reference != "mini" and (folder / reference).is_dir() else reference


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
        found["fit"] = {side: str(folder / place) for side, place in found["fit"].items()}
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
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"override {override!r}: {text!r} is not a YAML value") from None
    if isinstance(value, str):  # YAML 1.1 reads 3e-4 as a string
        value = _number(value)
    place[last] = value


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


_SECTIONS: dict[str, type[BaseModel]] = {
    "": Recipe,
    "data": DataSection,
    "lora": LoraSection,
    "task": TaskSection,
    "training": TrainingSection,
}


def _explain(item: Any) -> str:
    path = [str(part) for part in item["loc"] if not str(part).startswith("list[")]
    where = ".".join(path)
    if item["type"] == "extra_forbidden":
        section = ".".join(path[:-1])
        keys = _SECTIONS.get(section.partition(".")[0], Recipe).model_fields
        known = (f"{section}.{key}".lstrip(".") for key in keys)
        return str(unknown_name("key", where, known))
    if item["type"] == "missing":
        return f"key {where!r} is missing"
    message = re.sub(r"dictionary or instance of \w+", "mapping", item["msg"].removeprefix("Value error, "))
    return f"{where}: {message}" + ("" if item["type"] == "value_error" else f", not {item['input']!r}")
