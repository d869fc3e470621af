"""What a run's folder holds, from its first moment to the finished run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from close.errors import DataError, MissingError, OutputExistsError
from close.io.files import nan_as_null, read_json, write_json, write_text
from close.io.versions import versions
from close.plugins import check_plugins
from close.registry import Registry
from close.runs.card import model_card
from close.runs.recipe import Recipe, upgraded

__all__ = ["CHECKPOINTS", "RECIPE_FILE", "RUN_FILE", "begin_run", "is_finished", "open_run", "plugins_of", "save_run"]

RUN_FILE, RECIPE_FILE, CHECKPOINTS = "run.json", "recipe.yaml", "checkpoints"
STARTED = f"{CHECKPOINTS}/started.json"
"""Written first, so that a folder is known as a run's from its first moment on."""


def plugins_of(*used: tuple[Registry[Any], Iterable[str]]) -> list[str]:
    """The plug-ins that brought what a run uses: names in their registries."""
    return sorted({registry.origins[name] for registry, names in used for name in names if name in registry.origins})


def open_run(folder: str | Path) -> dict[str, Any]:
    """What `run.json` says of a finished run.

    Raises:
        MissingError: no run there, or an unfinished one; or it was made with plug-ins that are not loaded.
        DataError: the run is damaged.
    """
    place = Path(folder)
    if not (place / RUN_FILE).is_file():
        started = (place / RECIPE_FILE).is_file()
        raise MissingError(
            f"{place}: the run there is not finished; continue it with `close train … --resume`"
            if started
            else f"{place}: no run there (expected a folder that `close train` made)"
        )
    info: dict[str, Any] = read_json(place / RUN_FILE)
    check_plugins(info.get("plugins", []), f"{place}")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        if not (place / name).is_file():
            raise DataError(f"{place}: the run is damaged, {name} is missing")
        read_json(place / name)  # transformers takes its own defaults where it can't read these
    return info


def is_finished(folder: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> bool:
    """Make sure that the folder is free, or this run's; True where that is finished already.

    Raises:
        OutputExistsError: something else is there, or a run that is neither to be resumed nor to be overwritten.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    own = folder / RECIPE_FILE
    # not by its recipe: anyone may keep one there
    if not ((folder / RUN_FILE).is_file() or (folder / STARTED).is_file()):
        raise OutputExistsError(f"{folder} exists and is no run; choose another output")
    if overwrite or not own.is_file():
        return False
    if not resume:
        raise OutputExistsError(
            f"{folder} already holds a run: continue it with --resume, or replace it with --overwrite"
        )
    ours, theirs = recipe.dump(), upgraded(yaml.safe_load(own.read_text(encoding="utf-8")))
    defaults = {key: field.get_default(call_default_factory=True) for key, field in Recipe.model_fields.items()}
    different = [key for key in ours if ours[key] != theirs.get(key, defaults[key])]
    if different:
        raise OutputExistsError(
            f"{folder} holds a run of another recipe ({', '.join(different)} differ): resume with the same one, "
            "or choose another output"
        )
    finished = (folder / RUN_FILE).is_file()
    if finished:  # perhaps killed before it had tidied up
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return finished


def begin_run(folder: Path, recipe: Recipe, *, encoder: str, data: dict[str, str], resume: bool) -> None:
    """Mark the folder as this run's; what it was before goes, unless the run is resumed.

    Args:
        encoder: its fingerprint. data: the sums of the data files, by path.
    Raises:
        OutputExistsError: encoder or data have changed since the run that is to be resumed began.
    """
    facts, started = {"encoder": encoder} | data, folder / STARTED
    if resume and started.is_file():
        before = read_json(started)
        changed = [name for name in facts if facts[name] != before.get(name)]
        if changed:
            raise OutputExistsError(
                f"{folder}: {changed[0]} has changed since the run began; start anew with --overwrite"
            )
        return
    shutil.rmtree(folder, ignore_errors=True)
    write_json(started, facts)
    write_text(folder / RECIPE_FILE, yaml.safe_dump(recipe.dump(), sort_keys=False))


def save_run(
    folder: Path,
    model: Any,
    tokenizer: Any,
    recipe: Recipe,
    *,
    state: dict[str, Any] | None,
    about: dict[str, Any],
    log: list[dict[str, Any]],
) -> None:
    """Everything that the run needs; `run.json` last, so that it says that the run is whole.

    Args:
        model: a `CloseModel`. state: its weights, where the model itself holds only a part of them.
        about: what `run.json` says beyond the encoder, the seed and the versions. log: of every step that was logged.
    """
    logs = folder / CHECKPOINTS / "runs"  # where tensorboard writes
    if logs.is_dir():
        shutil.copytree(logs, folder / "runs", dirs_exist_ok=True)
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    write_text(folder / "log.jsonl", "".join(json.dumps(nan_as_null(entry)) + "\n" for entry in log))
    write_text(folder / "README.md", model_card(recipe))
    config = model.config
    encoder = {"encoder": config.encoder, "fingerprint": config.encoder_fingerprint}
    info = {"format": 1, **encoder, "seed": recipe.seed, **about, "versions": versions()}
    write_json(folder / RUN_FILE, info)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
