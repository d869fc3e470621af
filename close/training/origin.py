"""The finished run that another begins from: what is taken of it, and whether the recipe fits it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch

from close.adapters import ADAPTERS, Chain, GapAdapter, build_adapter
from close.adapters.resolve import is_load
from close.adapters.specs import split_spec, stages_of
from close.errors import CloseError, MismatchError, RecipeError
from close.io.files import whole, write_json
from close.io.places import last_part, seen_from
from close.io.plain import read_plain
from close.io.pretrained import hub_options, loading
from close.io.tensors import stored_shapes
from close.model.configuration import CloseConfig
from close.model.language_models.loading import count_weights, language_model_place
from close.model.language_models.reference import base_place, refer
from close.model.modeling import CloseModel
from close.runs.folder import CHECKPOINTS, RECIPE_FILE, open_run, recipe_of
from close.runs.recipe import Recipe, checked
from close.runs.recipe_file import absolute, read_values
from close.runs.sources import weights_sum
from close.tasks import get_task
from close.vectors.open import check_encoder

__all__ = ["Origin", "filled_in", "origin_of"]

KEPT = f"{CHECKPOINTS}/origin"
"""What a run under way keeps of the one that it began from, so that it goes on whatever becomes of that."""
TAKEN = ("encoder", "language_model", "prefix", "adapter", "several", "retrieve")
"""Keys of the recipe that are those of the run that it begins from; the adapter's noise, which learns nothing, may be another."""
_BESIDE = ("calibration", "checkpoints", "evaluations", "runs", "log.jsonl", "README.md")
_NO_SHAPE = ("transformers_version", "dtype", "use_cache")


def filled_in(recipe: Recipe, folder: Path, *, resume: bool = False) -> Recipe:
    """A recipe whose left-out keys are those of the run that it begins from (`init_from`); as it is where it names none.

    Args:
        folder: of the run that begins. resume: it may have begun already, and the one that it began from be gone.
    Raises:
        MissingError: there is no finished run. MismatchError: the recipe does not fit it; every difference is named.
    """
    if recipe.init_from is None:
        return recipe
    begun = recipe_of(folder) if resume else {}
    if begun.get("init_from") == absolute(recipe.dump())["init_from"]:
        return _taking(recipe, _of_run(begun, f"{folder}"))
    if os.path.abspath(recipe.init_from) == os.path.abspath(folder):
        raise RecipeError(f"init_from: a run can't begin from its own folder {folder}; choose another --out")
    open_run(recipe.init_from)
    config, place = _config(recipe.init_from), recipe.init_from / RECIPE_FILE
    known = _of_run(read_values(place), f"{place}")
    if wrong := _differences(recipe, config, known):
        raise MismatchError(
            f"init_from: {recipe.init_from} does not fit the recipe: {'; '.join(wrong)}. Left out, these keys are taken from it"
        )
    return _taking(recipe, known)


def _of_run(values: Mapping[str, Any], where: str) -> Recipe:
    """What is taken of a run, from what its recipe says."""
    theirs = {key: value for key, value in values.items() if key in TAKEN}
    return checked(theirs | {"data": {"train": "-"}}, where, only_keys=True)


def _taking(recipe: Recipe, known: Recipe) -> Recipe:
    """A recipe with what it leaves out; noise is not put on images where nobody says so, and two pictures stay two.

    Raises:
        RecipeError: what is taken does not go with what the recipe says.
    """
    taken = {key: getattr(known, key) for key in TAKEN if key not in recipe.model_fields_set}
    if recipe.train_on == "image":
        if "adapter" in taken:
            taken["adapter"] = _without_noise(taken["adapter"]) or "none"
        if taken.get("retrieve"):
            taken["retrieve"] = taken["retrieve"].model_copy(update={"noise": None})
    if any(get_task(part.task).views > 1 for part in recipe.parts()):
        taken.pop("several", None)
    found = recipe.model_copy(update=taken)
    checked(found.dump(), f"init_from {recipe.init_from}, and what is taken from it", only_keys=True)
    return found


def _is_noise(stage: Any) -> bool:
    return isinstance(stage, (str, dict)) and not is_load(stage) and ADAPTERS[split_spec(stage)[0]].noise_alone


def _without_noise(spec: Any) -> list[Any]:
    """The stages of an adapter that are not noise alone."""
    return [stage for stage in stages_of(spec) if stage != "none" and not _is_noise(stage)]


def _noise(spec: Any) -> list[Any]:
    """The stages of an adapter that are noise alone, at their places among the others."""
    return [stage if _is_noise(stage) else None for stage in stages_of(spec) if stage != "none"]


def _with_noise_of(adapter: GapAdapter, known: Any, spec: Any) -> GapAdapter:
    """The adapter of a run, which was trained with `known`, with the noise of a recipe that it fits."""
    if _noise(known) == _noise(spec):
        return adapter
    stages = adapter.members if isinstance(adapter, Chain) and isinstance(known, list) else [adapter]
    learnt = iter([stage for stage in stages if not stage.noise_alone and stage.name != "none"])
    found = [
        build_adapter(stage, adapter.dim) if _is_noise(stage) else next(learnt)
        for stage in stages_of(spec)
        if stage != "none"
    ]
    if not found:
        return build_adapter("none", adapter.dim)
    return Chain(adapter.dim, found) if isinstance(spec, list) else found[0]


def _config(folder: Path) -> CloseConfig:
    with loading(f"{folder}: the run can't be begun from"):
        return CloseConfig.from_pretrained(folder)


def _differences(recipe: Recipe, config: CloseConfig, known: Recipe) -> list[str]:
    """What the recipe says otherwise than a run; whose encoder it is shows when that is loaded."""
    given, wrong = recipe.model_fields_set, []
    alike = (config.prefix, known.prefix)  # `scale: embeddings` is a number in the one
    if "prefix" in given and recipe.prefix not in alike:
        wrong.append(f"prefix is {config.prefix} there, and {recipe.prefix} here")
    ours, theirs = (_without_noise(absolute(one.dump())["adapter"]) for one in (recipe, known))
    if "adapter" in given and ours != theirs:
        with suppress(CloseError):  # it names tables: other ones than there
            ours = stages_of(build_adapter(ours, config.embed_dim).spec()) if ours else []
        if ours != _without_noise(config.adapter):
            wrong.append(f"adapter is {known.adapter} there, and {recipe.adapter} here")
    names = [os.path.normpath(absolute(one.dump())["language_model"]) for one in (recipe, known)]
    if "language_model" in given and names[0] != names[1]:
        there, here = _shape(config.language_model), _shape(_language_model(recipe.language_model))
        found = [key for key in there if key in here and there[key] != here[key]]
        key = "model_type" if "model_type" in found else min(found, default=None)
        said = f"language_model is {known.language_model!r} there, and {recipe.language_model!r} here"
        is_moved = names[1].startswith((".", os.sep)) and not os.path.exists(names[1])  # the same one, for all we know
        if key is not None:
            wrong.append(f"{said}, whose {key} is {here[key]!r} and not {there[key]!r}")
        elif not is_moved:
            wrong.append(said)
    return wrong


def _language_model(reference: str) -> Any:
    from transformers import AutoConfig

    place = language_model_place(reference)
    with loading(f"language model {reference!r} can't be loaded", place) as trust:
        return AutoConfig.from_pretrained(place, trust_remote_code=trust, **hub_options(place))


def _shape(config: Any) -> dict[str, Any]:
    """What decides a language model's architecture."""
    values = config.to_dict().items()
    return {k: v for k, v in values if isinstance(v, (int, str)) and not k.startswith("_") and k not in _NO_SHAPE}


@dataclass(frozen=True)
class Origin:
    """A finished run that another begins from.

    Attributes:
        folder: where its files are read. about: what the new run records: `run`, relative to its own folder, `sha256` of weights
            and configuration, and `steps`.
    """

    folder: Path
    about: Mapping[str, Any]

    def check_encoder(self, name: str, fingerprint: str) -> None:
        """Refuse another encoder than its own.

        Raises:
            MismatchError: names both.
        """
        own, what = _config(self.folder), f"init_from: {self.about['run']}"
        check_encoder(what, own.encoder, own.encoder_fingerprint, "the recipe", name, fingerprint)

    @property
    def weights(self) -> int:
        """How many its model has."""
        own, base = stored_shapes(self.folder, "model.safetensors").values(), _config(self.folder).base
        return sum(map(prod, own)) + (count_weights(base_place(base, self.folder)) if base else 0)

    def model(self, adapter: Any) -> CloseModel:
        """Its model, adapter included, in float32.

        Args:
            adapter: the recipe's, whose noise may be another.
        Raises:
            WeightsError: it is damaged.
        """
        model: CloseModel = CloseModel.from_pretrained(self.folder, dtype=torch.float32)
        known = _of_run(read_values(self.folder / RECIPE_FILE), f"{self.folder}").adapter
        model.adapter = _with_noise_of(model.adapter, known, adapter)
        model.config.adapter = model.adapter.spec()
        return model

    def keep(self, folder: Path) -> None:
        """Copy what a run in `folder` needs of it to go on, where that is not done."""
        if not (folder / KEPT).is_dir():
            with whole(folder / KEPT) as partial:
                shutil.copytree(self.folder, partial, ignore=shutil.ignore_patterns(*_BESIDE, ".*"))
                about = read_plain(partial / "config.json")
                if about.get("base") is not None:
                    about["base"] = refer(about["base"], self.folder, folder / KEPT)
                    write_json(partial / "config.json", about)


def origin_of(recipe: Recipe, folder: Path, started: Mapping[str, Any] | None) -> Origin | None:
    """The run that this one begins, or began, from.

    Args:
        folder: of the run that begins. started: what it wrote down when it began, where it goes on.
    Raises:
        MissingError: that run is gone, and this one had not got to keep what it needs of it.
    """
    if recipe.init_from is None:
        return None
    if started and (folder / KEPT).is_dir():
        return Origin(folder / KEPT, started["origin"])
    run = seen_from(recipe.init_from, folder) or last_part(recipe.init_from)
    about = {"run": run, "sha256": weights_sum(recipe.init_from), "steps": open_run(recipe.init_from).get("steps")}
    return Origin(recipe.init_from, about)
