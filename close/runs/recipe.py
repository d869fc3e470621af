"""A training run on one page: a YAML file, validated whole before any work starts."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from close.errors import CloseError, RecipeError, firsts
from close.io.files import not_finite
from close.plugins import load_plugins
from close.registry import unknown_name
from close.runs.recipe_file import read_values
from close.runs.sections import (
    DataSection,
    LoraSection,
    RetrieveSection,
    Section,
    TaskSection,
    TrainingSection,
    as_value,
    does_nothing,
    keys_only,
    training_key,
)
from close.runs.slips import MOST, Slips, SlipsError, check_stages, comma_told
from close.tasks import TASKS

__all__ = ["Recipe", "checked", "key_named", "load_recipe", "upgraded"]


_WORD = re.compile(r"\w+")
TRIES = 5
"""How often what is wrong is taken out of a recipe, to see what else is."""


def _each_alone(info: ValidationInfo) -> bool:
    """Whether each key is looked at by itself, and not what goes together."""
    return bool(info.context and info.context.get("each_alone"))


class Recipe(Section):
    """Everything that decides a run.

    Attributes:
        task: caption, vqa, vqa_e, entailment, nlvr2, news, or one's own; or a list of `{task, train, weight}`: one model of all.
        data: where the rows are.
        encoder: reference of the contrastive encoder. language_model: `mini`, hub id or local directory.
        prefix: what makes the prefix: `{kind, length}` and the kind's own options, or a kind's name; `scale: embeddings` starts
            its tokens as long as the language model's, or scale is a number.
        tune: what of the language model learns: "full", "lora", or "none" (only prefix and adapter do). lora: how; alone, it says
            "lora" too.
        adapter: how the gap is crossed: a name, `{name: options}`, or a list of these; noise that leaves a cosine of .41 where
            nothing is said, and none with `train_on: image`, whose images its noise is on.
        train_on: "text", or "image" for the image-supervised ceiling.
        retrieve: texts that are found for each row, and for each image in use; null: none.
        plugins: modules and files with one's own parts; `load_recipe` imports them before it looks at the rest.
        several: what becomes of several sources or images of one row: "mean": one vector, "set": they stay apart. Without it,
            "set" where the task is about more than one (nlvr2), else "mean".
        captions: "single": the caption itself is the target; "multiple": every other caption of its group.
        lowercase: whether targets are learnt in lower case, as in the paper; false keeps names and German nouns as they are.
        max_new_tokens: the most tokens of a text, learnt and made; longer targets are cut. Without it, the task's own
            (captions: 32).
        training: how long, how fast, and what is kept.
        init_from: a finished run that this one begins from; encoder, language model, prefix and adapter are those of it, and its
            noise may be another.
        seed: of weights, order and noise.
    """

    task: str | list[TaskSection] = "caption"
    data: DataSection = Field(default_factory=lambda: DataSection())
    encoder: str = "mini"
    language_model: str = "mini"
    prefix: dict[str, Any] = Field(default_factory=lambda: {"kind": "linear", "length": 4})
    train_on: Literal["text", "image"] = "text"
    adapter: Any = Field(default_factory=lambda: [{"gaussian": {"cosine": 0.41}}])
    several: Literal["mean", "set"] = "mean"
    captions: Literal["single", "multiple"] = "single"
    tune: Literal["full", "lora", "none"] = "full"
    lora: LoraSection | None = None
    retrieve: RetrieveSection | None = None
    lowercase: bool = Field(True, strict=True)
    max_new_tokens: int | None = Field(None, ge=1, le=4096, strict=True)
    training: TrainingSection = Field(default_factory=lambda: TrainingSection())
    init_from: Path | None = None
    seed: int = Field(0, ge=0, lt=2**32, strict=True)
    plugins: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _older(cls, values: Any) -> Any:
        if (place := not_finite(values)) is not None:
            raise ValueError(f"{place[0]}: expected a finite number, not {place[1]!r}")
        return upgraded(values) if isinstance(values, dict) else values

    @field_validator("prefix", mode="before")
    @classmethod
    def _prefix(cls, spec: Any, info: ValidationInfo) -> Any:
        if isinstance(spec, str):
            spec = {"kind": spec}
        if not isinstance(spec, dict) or not isinstance(spec.get("kind", ""), str):
            raise ValueError(f"prefix is {{kind: NAME, length: NUMBER}}, not {spec!r}")
        spec = {"kind": "linear"} | spec
        if keys_only(info):
            return spec
        from close.model.prefixes import complete_prefix

        with as_value():
            return complete_prefix(spec)

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> Recipe:
        if self.train_on == "image" and "adapter" not in self.model_fields_set:
            self.__dict__["adapter"] = "none"  # and not among the keys that were given
        if "several" not in self.model_fields_set and self._apart() == {True}:
            self.__dict__["several"] = "set"  # and not among the keys that were given
        if wrong := [] if _each_alone(info) else [*self.disagreements()]:
            raise ValueError("\n".join(wrong))
        if self.init_from is None and not keys_only(info):  # else it is that run's, and has learnt what it needs
            from close.adapters import check_adapter, check_on_images

            with as_value():
                check_adapter(self.adapter, trains_on=self.train_on)
                if self.train_on == "image":
                    check_on_images(self.adapter)
        return self

    def _names(self) -> list[str]:
        return [self.task] if isinstance(self.task, str) else [part.task for part in self.task]

    def _apart(self) -> set[bool]:
        """Whether tasks are about more than one image; of those that are known, more than one answer where they differ."""
        return {TASKS[name].views > 1 for name in self._names() if name in TASKS}

    def disagreements(self) -> Iterator[str]:
        """What keys do not go together, as far as that shows without torch."""
        one = isinstance(self.task, str)
        if self.tune == "none" and self.training.prefix_learning_rate is not None:
            yield "tune: none trains the prefix alone, whose rate is training.learning_rate: say that"
        if self.lora is not None and self.tune != "lora":
            yield f"lora is given, and tune is {self.tune!r}: leave one of them out, or say tune: lora"
        if self.retrieve is not None and self.train_on == "image" and self.retrieve.noise is not None:
            yield "retrieve: noise is on the text that training searches with; with train_on: image leave it out"
        if self.retrieve is not None and not one and self.retrieve.memory is None:
            yield "retrieve: with a list of tasks, say which rows are the memory (retrieve.memory)"
        if "several" not in self.model_fields_set and len(self._apart()) > 1:
            names = ", ".join(self._names())
            yield f"several: of {names} some are about one image and some about more: say set or mean"
        if one and self.data.train is None:
            yield "key 'data.train' is missing"
        if not one and (self.data.train or self.data.embeddings):
            yield "with a list of tasks, each names its own 'train' (and 'embeddings'); leave them out of 'data'"
        if not one and self.captions != "single":
            yield "with a list of tasks, each says its own 'captions: multiple'; leave it out of the recipe"
        if self.data.val_images and (self.data.val is None or self.training.metric_for_best in (None, "loss")):
            yield "data.val_images counts where training.metric_for_best names a score of the rows of data.val"

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return self.max_new_tokens or max(TASKS[part.task].max_new_tokens for part in self.parts())

    @property
    def retrieval(self) -> dict[str, Any] | None:
        """`retrieve` as training and use take it, complete; None where nothing is retrieved."""
        if self.retrieve is None:
            return None
        gives_away = self.train_on == "image" or any(part.captions == "multiple" for part in self.parts())
        leave_out = self.retrieve.leave_out or ("groups" if gives_away else "texts")
        return self.retrieve.model_dump(mode="json", exclude={"memory", "texts"}) | {"leave_out": leave_out}

    def most_vectors(self, own: int) -> int:
        """The most vectors that go into the prefix, where an item has at most `own`."""
        if self.retrieve is None or "vectors" not in self.retrieve.uses:
            return own
        return own * self.retrieve.main + self.retrieve.k

    @field_validator("task")
    @classmethod
    def _task(cls, task: str | list[TaskSection], info: ValidationInfo) -> str | list[TaskSection]:
        if not task:
            raise ValueError("expected a task, or a list of at least one")
        known = not keys_only(info) or bool(info.context and info.context.get("tasks"))
        for name in [task] if isinstance(task, str) else [part.task for part in task]:
            with as_value():
                _ = TASKS[name] if known else None
        return task

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

    def columns_of(self, place: str | Path) -> dict[str, str | int] | None:
        """What is said of the columns of a file that the recipe names beside its data: it may be one of the training files."""
        trained = (Path(part.train).resolve() for part in self.parts())
        return self.data.columns if Path(place).resolve() in trained else None

    @field_validator("adapter")
    @classmethod
    def _adapter(cls, spec: Any, info: ValidationInfo) -> Any:
        if not keys_only(info):
            from close.adapters import check_adapter

            check_stages(spec, check_adapter)
        return spec

    @field_validator("plugins", mode="before")
    @classmethod
    def _plugins(cls, given: Any) -> Any:
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise ValueError(f"expected a list of modules and files, e.g. [./my_parts.py], not {given!r}")
        return given

    def dump(self) -> dict[str, Any]:
        """As plain values, for YAML and JSON."""
        return self.model_dump(mode="json")


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe of an older version in today's keys.

    Raises:
        RecipeError: the old and the new key are both there and differ.
    """
    if values.get("lora") is not None and "tune" not in values:
        values = values | {"tune": "lora"}
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


def load_recipe(
    path: str | Path | None,
    overrides: str | Sequence[str] | None = None,
    *,
    look: Callable[[Recipe], None] = lambda recipe: None,
) -> Recipe:
    """A recipe from its file and `key=value` overrides (`training.epochs=3`, `adapter='{gaussian: {cosine: 0.3}}'`).

    Paths in the file are relative to its folder, those in overrides to the working directory.

    Args:
        path: of the file; None takes all from the overrides, one alone or several.
        look: is shown the recipe when its keys and plain values are checked, before its parts are, which takes torch.
    Raises:
        MissingError: no such file.
        RecipeError: all that is wrong with keys and values, with the nearest name of an unknown key, and what `look` finds; where
            there is none, all that is wrong with parts (an adapter, its options …), since looking at these takes torch.
    """
    where, values, slips = str(path or "recipe"), read_values(path, overrides or []), Slips()
    rest, wrong = _sound(values)
    with slips.kept():
        _tell(where, wrong)
    with slips.kept():
        if rest is not None:
            look(rest)
    slips.tell()
    load_plugins(values.get("plugins", ()))
    return checked(values, where)


def _sound(values: dict[str, Any]) -> tuple[Recipe | None, list[str]]:
    """What is right in a recipe, without its wrong keys (None where that is no recipe), and all that is wrong; without torch."""
    context = {"keys_only": True, "each_alone": True, "tasks": not values.get("plugins")}
    wrong, gone, rest = list[str](), set[str](), copy.deepcopy(values)
    for _ in range(TRIES):
        try:
            found = Recipe.model_validate(rest, context=context)
        except ValidationError as error:
            items = _items(error)
            wrong += [line for item in items for line in _explain(item) if gone.isdisjoint(_WORD.findall(line))]
            gone |= {name for item in items for name in _drop(rest, item["loc"])}
        except CloseError as error:
            return None, [*wrong, str(error)]
        else:
            return found, [*wrong, *(line for line in found.disagreements() if gone.isdisjoint(_WORD.findall(line)))]
    return None, wrong


def _drop(values: Any, loc: Sequence[Any]) -> set[str]:
    """Take what is wrong out of a recipe's values; of a section that does not fit together first what is no key of ours.

    Returns:
        Names of keys that are gone: what is said of these from now on may come of that.
    """
    path = [step for step in loc if not str(step).startswith("list[")]
    above: Any = None
    try:
        for step in path[:-1]:
            above, values = values, values[step]
    except (KeyError, IndexError, TypeError):
        return set(map(str, path))
    if not path:
        return set()
    last = path[-1]
    if isinstance(values, dict) and last not in values:  # it is missing: the section is not looked at
        if len(path) > 1:
            del above[path[-2]]
        return set(map(str, path))
    if len(path) == 1 and last in _SECTIONS and isinstance(values[last], dict):
        own = {key: value for key, value in values[last].items() if key in _SECTIONS[last].model_fields}
        if own and own != values[last]:
            values[last] = own
            return set()
    if isinstance(values, dict) or (isinstance(values, list) and isinstance(last, int) and last < len(values)):
        del values[last]
    return {str(last)}


def checked(values: dict[str, Any], where: str, *, only_keys: bool = False) -> Recipe:
    """A recipe of plain values.

    Args:
        where: what its errors begin with. only_keys: look at keys and plain values alone, which needs no torch.
    Raises:
        RecipeError: every wrong key or value.
    """
    try:
        return Recipe.model_validate(values, context={"keys_only": only_keys})
    except ValidationError as error:
        _tell(where, [line for item in _items(error) for line in _explain(item)])
        raise
    except CloseError as error:
        raise RecipeError(f"{where}: {error}") from None


def _tell(where: str, wrong: Sequence[str]) -> None:
    """Say what is wrong, if something is."""
    if wrong:
        lines = list(dict.fromkeys(wrong))
        raise SlipsError(f"{where}: {firsts(lines, MOST)}", [f"{where}: {line}" for line in lines])


def _items(error: ValidationError) -> list[Any]:
    """What pydantic found: one branch of a union is enough."""
    return [item for item in error.errors() if item["loc"] != ("task", "str")]


_SECTIONS: dict[str, type[BaseModel]] = {
    "": Recipe,
    "data": DataSection,
    "lora": LoraSection,
    "retrieve": RetrieveSection,
    "task": TaskSection,
    "training": TrainingSection,
}


def key_named(name: str) -> str | None:
    """The whole name of a recipe's key, `training.epochs` of `epochs`; None where no section has one."""
    sections = (f"{section}.{name}".lstrip(".") for section, kind in _SECTIONS.items() if name in kind.model_fields)
    return next(sections, None) or training_key(name)


def _explain(item: Any) -> list[str]:
    """What pydantic found, in lines."""
    path = [str(part) for part in item["loc"] if not str(part).startswith("list[")]
    where = ".".join(path)
    if item["type"] == "extra_forbidden":
        if why := does_nothing(path[-1]):
            return [f"unknown key {where!r}: {why}"]
        # a letter in a section is more likely mistyped than another section's
        elsewhere = key_named(path[-1]) if len(path) == 1 or len(path[-1]) > 1 else None
        if elsewhere is not None and elsewhere.startswith("--"):
            return [f"unknown key {where!r}: it is {elsewhere} of the command"]
        if elsewhere is not None:
            return [f"unknown key {where!r}: did you mean {elsewhere!r}?"]
        section = ".".join(path[:-1])
        keys = _SECTIONS.get(section.partition(".")[0], Recipe).model_fields
        known = (f"{section}.{key}".lstrip(".") for key in keys)
        return [str(unknown_name("key", where, known))]
    if item["type"] == "missing":
        return [f"key {where!r} is missing"]
    message = re.sub(r"dictionary or instance of \w+", "mapping", item["msg"].removeprefix("Value error, "))
    end = "" if item["type"] == "value_error" else f", not {item['input']!r}{comma_told(item['input'])}"
    return [f"{where and where + ': '}{line}{end}" for line in message.split("\n")]
