"""A run that names its language model or its memory, made one that holds them."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from close.encoders import load_encoder
from close.errors import OutputExistsError, RecipeError
from close.io.files import whole, write_json, write_text
from close.io.hub import run_folder
from close.io.places import place_of, reference_from
from close.io.plain import read_plain
from close.model.language_models.reference import base_place
from close.model.modeling import CloseModel
from close.model.parts import is_partial
from close.plugins import is_file
from close.runs.card import model_card
from close.runs.confidence import FOLDER as CALIBRATION
from close.runs.confidence import run_sum
from close.runs.folder import RECIPE_FILE, RUN_FILE, open_run
from close.runs.recipe import checked
from close.runs.recipe_file import portable, portable_reference, read_values
from close.runs.searching import MemorySearch, has_memory
from close.runs.words import keep_words, word_lists

__all__ = ["merge"]


def merge(
    run: str | Path, out: str | Path, *, language_model: str | None = None, memory: str | Path | None = None
) -> Path:
    """Write a run whole: its language model with what LoRA added, and the memory that it searches, beside all else that it holds.

    Args:
        run: a finished run that was tuned by LoRA, or not at all, or that searches a memory. out: a new folder.
        language_model: where that is now, if elsewhere than when the run was trained. memory: another one to put into it.
    Returns:
        The new run's folder; it says what the run says.
    Raises:
        OutputExistsError: `out` is there. RecipeError: the run is whole already.
        MissingError, MismatchError, WeightsError: the run, its language model or its memory is gone, is another, or is damaged.
    """
    source, target = run_folder(run), Path(out)
    info = open_run(source)
    if target.exists():
        raise OutputExistsError(f"{target} is there already; choose another output")
    model = CloseModel.from_pretrained(source, base_place=language_model)
    own = place_of(model.config.encoder, source)
    held = MemorySearch(model, source, cache(lambda: load_encoder(own)))
    if memory is not None:
        held.use(memory)
    wants_memory = bool(held) and (memory is not None or not has_memory(model.config))
    if not is_partial(source) and not wants_memory:
        what = "language model and its memory" if held else "language model"
        raise RecipeError(f"{source} holds its whole {what} already; there is nothing to merge")
    about = dict(info) | _plugins_from(info, source, target)
    if model.config.base:
        merged = portable_reference(base_place(model.config.base, source), target)
        about["merged"] = dict(model.config.base) | {"reference": merged}
    model.config.encoder = reference_from(own, target)
    if model.config.retrieve:
        model.config.retrieve = _retrieve_from(model.config.retrieve, source, target)
    model.config.base, model.factors = None, {}
    model.config.language_model._name_or_path = ""  # a place on this machine
    recipe = checked(read_values(source / RECIPE_FILE), f"{source / RECIPE_FILE}", only_keys=True)
    with whole(target) as partial:
        shutil.copytree(
            source, partial, ignore=shutil.ignore_patterns("checkpoints", "evaluations", "*.safetensors", ".*")
        )
        keep_words(model.config, word_lists(model.config.retrieve, source), partial)
        if wants_memory:
            held.put_into(model.config, partial)
        model.save_pretrained(partial)
        write_text(partial / RECIPE_FILE, yaml.safe_dump(portable(recipe.dump(), target), sort_keys=False))
        write_text(partial / "README.md", model_card(recipe, target, about))
        write_json(partial / RUN_FILE, about)
        same = wants_memory and memory is None
        _keep_calibrations(source, partial, {"memory": model.config.retrieve["memory"]["sha256"]} if same else {})
    return target


def _retrieve_from(said: dict[str, Any], source: Path, target: Path) -> dict[str, Any]:
    """How a run retrieves, its encoder to search in named as a run in `target` names it."""
    full = {key: value for key, value in said.items() if key not in ("memory", "language")}
    if isinstance(encoder := full.get("encoder"), str):
        full["encoder"] = place_of(encoder, source)
    return said | dict(portable({"retrieve": full}, target)["retrieve"])


def _plugins_from(info: dict[str, Any], source: Path, target: Path) -> dict[str, Any]:
    """The plug-ins of a run, their files as from `target`."""
    full = [os.path.join(source, name) if is_file(name) else name for name in info.get("plugins", [])]
    return portable({"plugins": full}, target)


def _keep_calibrations(source: Path, partial: Path, memory: dict[str, str]) -> None:
    """Calibrations of the run are the merged one's, which says the same; of another training they stay what they are.

    Args:
        memory: the sum of the memory by its name among the settings, where it lies in the run now and is the same one.
    """
    for file in (partial / CALIBRATION).glob("*.json"):
        about = read_plain(file)
        if about.get("run_sha256") == run_sum(source):
            settings = {key: memory.get(key, value) for key, value in about.get("settings", {}).items()}
            write_json(file, about | {"run_sha256": run_sum(partial), "settings": settings})
