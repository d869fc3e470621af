"""The arms of a sweep: adapters × noise × settings, and the two that a comparison needs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from close.adapters import check_adapter
from close.adapters.resolve import parse_spec
from close.adapters.specs import stages_of
from close.errors import CloseError, RecipeError
from close.io.plain import parse_yaml
from close.runs.recipe import Recipe, checked
from close.runs.recipe_file import number, relative
from close.runs.slips import Slips, SlipsError
from close.study.tables import Tables, takes_pairs

__all__ = [
    "APART",
    "Arm",
    "Setting",
    "arms_of",
    "deciding",
    "merged",
    "named_arm",
    "naming",
    "own_adapter",
    "run_folder",
    "settings_of",
]

APART = 1000
"""How far seeds of one setting are from those of the next."""

_OWN_TEXTS = "; of other texts than those of training it learns by a fit of its own: '{memory: {fit: {text: TABLE}}}'"

_FOLLOWING = ("several", "tune")
"""Keys that follow from others where a recipe leaves them out: an arm of another task, or with LoRA, has its own."""

_LATER = {
    "max_new_tokens": None,
    "data.val_images": None,
    "lowercase": True,
    "retrieve.index": "exact",
    "training.prefix_learning_rate": None,
}
"""Keys that came after runs were named by their recipes, and what they say of a run of before, which keeps its name."""


@dataclass(frozen=True)
class Arm:
    """One way to train: a name, and what differs from the base recipe; of a method in several settings, which these are.

    In each setting seeds are others, further on by `apart`: what a seed does to a run would else come back in every setting.
    `fitted` says of its adapters what each learns from.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    method: str = ""
    setting: str = ""
    apart: int = 0
    fitted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What every method is trained with in turn."""

    name: str
    changes: dict[str, Any]


def settings_of(vary: Sequence[str]) -> list[Setting]:
    """All combinations of the values of recipe keys: `training.warmup_steps=0,50`, `prefix=linear,mlp`.

    Raises:
        RecipeError: one is no key=value,value; a key or a value is given twice; or the key is one that tells arms apart.
    """
    axes: dict[str, list[Setting]] = {}
    for given in vary:
        key, equals, text = given.partition("=")
        if not equals or not key:
            raise RecipeError(f"--vary is key=value,value, e.g. training.warmup_steps=0,50, not {given!r}")
        if key in axes:
            raise RecipeError(f"--vary {key} is given twice; give all its values at once")
        if other := next(
            (one for one in axes if f"{one}.".startswith(f"{key}.") or f"{key}.".startswith(f"{one}.")), None
        ):
            whole = min(key, other, key=len)
            raise RecipeError(
                f"--vary {other} and --vary {key}: {whole} is the whole of it; vary its keys one by one, as prefix.kind=a,b"
            )
        if (top := key.partition(".")[0]) in ("adapter", "train_on", "seed"):
            raise RecipeError(f"--vary {key}: {top} tells the arms of a sweep apart; it has an option of its own")
        try:
            values = parse_yaml(f"[{text}]")
        except ValueError as error:
            raise RecipeError(f"--vary {given!r}: {text!r} are no YAML values ({error})") from None
        shown = [_label(value) for value in map(number, values)]
        if not values or len({*shown}) < len(shown):
            raise RecipeError(f"--vary {given!r}: expected values that differ, with commas between")
        axes[key] = [
            Setting(f"{key.rpartition('.')[2]} {text}", _nested(key, number(value)))
            for text, value in zip(shown, values, strict=True)
        ]
    made = []
    for chosen in product(*axes.values()) if axes else ():
        changes: dict[str, Any] = {}
        for one in chosen:
            changes = merged(changes, one.changes)
        made.append(Setting(", ".join(one.name for one in chosen), changes))
    return made


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values with others in their place; sections are merged, at any depth, and an adapter or a noise is replaced."""
    found = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict) and key not in ("adapter", "noise")
        found[key] = merged(found[key], value) if both else value
    return found


def named_arm(given: str) -> tuple[str, Any]:
    """Name and spec of an arm from a command line: `DeCap=[memory]`.

    Raises:
        RecipeError: it lacks either, the name is one that every sweep has, or the spec is no YAML or no adapter.
    """
    name, equals, text = (part.strip() for part in given.partition("="))
    if not (name and equals and text):
        raise RecipeError(f"--arm is NAME=SPEC, e.g. 'DeCap=[memory]', not {given!r}")
    spec = parse_spec(text)
    if name in ("none", "image") or stages_of(spec) in ([], ["none"]):
        raise RecipeError(
            f"--arm {given!r}: every sweep has the arms none, without an adapter, and image; leave it out"
        )
    return name, spec


def own_adapter(base: Recipe) -> Any:
    """What the recipe itself trains through, as `arms_of` takes it: the arm of a sweep for which nobody names another.

    Raises:
        RecipeError: it is for images; arms through adapters are trained on text.
    """
    if base.train_on == "image" and any(stage != "none" for stage in stages_of(base.adapter)):
        raise RecipeError(
            "the recipe trains on images through an adapter, and a sweep's arms through adapters are trained on text: leave "
            "train_on out, or name what is to be tried (--adapter, --noise)"
        )
    return base.adapter


def arms_of(
    adapters: Sequence[Any],
    noises: Sequence[float],
    *,
    named: Sequence[tuple[str, Any]] = (),
    settings: Sequence[Setting] = (),
    image: bool = True,
    tables: Tables | None = None,
) -> list[Arm]:
    """Every adapter at every noise, with the two that a comparison needs: `none` below and `image` above.

    Args:
        adapters: specs as in a recipe; "none" means noise alone.
        noises: cosines that the noise leaves; 1 means no noise.
        named: names and specs of whole arms, to which no noise is added.
        settings: what every arm is trained with in turn; the recipe as it is where empty.
        image: include the image-supervised ceiling.
        tables: what adapters learn from that say nothing of it themselves.
    Raises:
        RecipeError: an adapter is none or lacks data (it is named), something is given twice, or a noise is no cosine.
    """
    for kind, given in (("adapter", adapters), ("noise", noises)):
        if twice := [one for place, one in enumerate(given) if one in list(given)[:place]]:
            raise RecipeError(f"{kind} {twice[0]!r} is given twice; each is trained once")
    if wrong := [cosine for cosine in noises if not 0 < cosine <= 1]:
        raise RecipeError(f"noise {wrong[0]!r}: the cosine that it leaves is more than 0, and 1 without noise")
    arms = [Arm("none", {"adapter": "none", "train_on": "text"})]
    tried = _with_tables([*(("", spec) for spec in adapters), *named], tables or Tables())
    for shown, given, fitted in tried[: len(adapters)]:
        for cosine in noises:
            noise = [{"gaussian": {"cosine": cosine}}] if cosine < 1 else []
            if stages := [*given, *noise]:
                name = " + ".join(map(_label, [*shown, *noise]))
                arms.append(Arm(name, {"adapter": stages, "train_on": "text"}, fitted=fitted))
    arms = [arm for place, arm in enumerate(arms) if arm not in arms[:place]]
    for name in {
        arm.name for arm in arms if [one.name for one in arms].count(arm.name) > 1
    }:  # they differ in what is not shown
        arms = [replace(arm, name=f"{name}: {arm.changes['adapter']}") if arm.name == name else arm for arm in arms]
    arms += [
        Arm(name, {"adapter": given, "train_on": "text"}, fitted=fitted)
        for (name, _), (_, given, fitted) in zip(named, tried[len(adapters) :], strict=True)
    ]
    if image:
        arms.append(Arm("image", {"adapter": "none", "train_on": "image"}))
    if settings:
        arms = [
            Arm(
                f"{arm.name}, {one.name}",
                merged(arm.changes, one.changes),
                arm.name,
                one.name,
                place * APART,
                arm.fitted,
            )
            for arm in arms
            for place, one in enumerate(settings)
        ]
    return arms


def _with_tables(
    specs: Sequence[tuple[str, Any]], tables: Tables
) -> list[tuple[list[Any], list[Any], tuple[str, ...]]]:
    """The stages of each adapter as given, with their tables, and what they learn from; all are looked at before one is fitted.

    Args:
        specs: with the names of their arms; of no name, those of their stages.
    """
    given = [[stage for stage in stages_of(spec) if stage != "none"] for _, spec in specs]
    taken = set[str]()
    slips = Slips()
    for (name, _), stages in zip(specs, given, strict=True):
        with slips.kept(), naming(name or " + ".join(map(_label, stages))):
            check_adapter(stages)
            taken |= {side for fit in tables.check(stages) for side in fit}
            taken |= {"pairs"} if takes_pairs(stages) else set()
    slips.tell()
    if left := [side for side in ("text", "image", "pairs", "groups") if getattr(tables, side) and side not in taken]:
        raise RecipeError(
            f"--{left[0]} is given, and no adapter that is tried learns from it: name one that does (--adapter)"
            + (_OWN_TEXTS if left[0] == "text" else "")
        )
    return [(stages, tables.give(stages), tuple(tables.told(stages))) for stages in given]


def run_folder(base: Recipe, arm: Arm, seed: int, folder: Path) -> tuple[Recipe, Path]:
    """The recipe of one run, and where it lies: named by the arm, the seed and a hash of the recipe, its places seen from there.

    A run of before was named by its places as they were given, and keeps that name.

    Raises:
        RecipeError: the arm makes no recipe; it is named.
    """
    seed += arm.apart
    left = {key for key in _FOLLOWING if key not in base.model_fields_set}
    given = {key: value for key, value in base.dump().items() if key not in left}
    recipe = checked(merged(given, arm.changes) | {"seed": seed}, f"arm {arm.name!r}")
    name, values = f"{re.sub(r'[^-+.,=()A-Za-z0-9]', '_', arm.name)[:80]}-{seed}", deciding(recipe)
    before, place = (folder / "runs" / f"{name}-{_digest(one)}" for one in (values, relative(values, folder)))
    return recipe, before if before.exists() else place


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def deciding(recipe: Recipe) -> dict[str, Any]:
    """What a run is known by: a recipe's values, but for keys that came later and say nothing new."""
    values = recipe.dump()
    for key, before in _LATER.items():
        section, _, name = key.rpartition(".")
        place = values[section] if section else values
        if place and place[name] == before:
            del place[name]
    return values


@contextmanager
def naming(arm: str) -> Iterator[None]:
    """What is wrong with an arm is told with its name."""
    try:
        yield
    except CloseError as error:
        each = error.each if isinstance(error, SlipsError) else (str(error),)
        raise SlipsError(f"arm {arm!r}: {error}", [f"arm {arm!r}: {line}" for line in each]) from None


def _label(stage: Any) -> str:
    if isinstance(stage, dict) and len(stage) != 1:
        return " ".join(f"{key} {value}" for key, value in stage.items())
    if not isinstance(stage, dict):
        return str(stage)
    name, options = next(iter(stage.items()))
    if not isinstance(options, dict):
        return str(name) if options is None else f"{name} {options}"
    return " ".join([str(name), *(f"{key} {value}" for key, value in options.items() if key != "fit")])
