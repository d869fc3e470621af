"""What a run's folder holds, from its first moment to the finished run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from close.errors import DataError, MissingError, OutputExistsError, shown
from close.io.files import nan_as_null, write_json, write_text
from close.io.hub import is_on_hub
from close.io.jobs import clear, is_temporary
from close.io.places import moved_reference, place_of, seen_through
from close.io.plain import read_plain, read_yaml
from close.io.record import code_sums
from close.io.versions import versions
from close.plugins import changed_plugins, check_plugins, is_file, plugins_said, short_name, tell_changed
from close.registry import unknown_name
from close.runs.card import model_card
from close.runs.recipe import Recipe, upgraded
from close.runs.recipe_file import absolute, portable, portable_reference, read_values, relative, seen_in
from close.runs.sources import changed_source
from close.runs.words import keep_words, word_lists

__all__ = [
    "CHECKPOINTS",
    "RECIPE_FILE",
    "RUN_FILE",
    "begin_run",
    "check_goes_on",
    "check_run",
    "code_of",
    "is_finished",
    "open_run",
    "recipe_of",
    "save_run",
    "started_run",
    "task_among",
    "tidy",
]

RUN_FILE, RECIPE_FILE, CHECKPOINTS = "run.json", "recipe.yaml", "checkpoints"
STARTED = f"{CHECKPOINTS}/started.json"
"""Written first, so that a folder is known as a run's from its first moment on."""
_ABSENT = object()


def open_run(folder: str | Path) -> dict[str, Any]:
    """What `run.json` says of a finished run; told once where a plug-in's code has changed since it was trained.

    Raises:
        MissingError: no run there, or an unfinished one; or it was made with plug-ins that are not loaded.
        DataError: the run is damaged.
    """
    place = Path(folder)
    if not (place / RUN_FILE).is_file():
        started = any((place / name).is_file() for name in (STARTED, RECIPE_FILE))
        raise MissingError(
            f"{place}: the run there is not finished; continue it with `close train … --resume`"
            if started
            else f"{place}: no run there (expected a folder that `close train` made)"
        )
    info = read_plain(place / RUN_FILE)
    for key in ("tasks", "plugins", "plugin_sums"):
        if not isinstance(info.get(key, []), list) or not all(isinstance(name, str) for name in info.get(key, [])):
            raise DataError(f"{place / RUN_FILE}: {key} is a list of names, not {info[key]!r}")
    if not info.get("tasks"):
        raise DataError(f"{place / RUN_FILE}: 'tasks' is missing")
    parts = info.setdefault("train", [])
    if not isinstance(parts, list) or not all(
        isinstance(part, dict) and isinstance(part.get("task"), str) for part in parts
    ):
        raise DataError(f"{place / RUN_FILE}: train is a list of what each task was trained on, not {parts!r}")
    plugins = info.get("plugins", [])
    check_plugins([os.path.normpath(place / name) if is_file(name) else name for name in plugins], f"{place}")
    tell_changed(place.resolve(), info, "it was trained, and it may say something else than then")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        if not (place / name).is_file():
            raise DataError(f"{place}: the run is damaged, {name} is missing")
        read_plain(place / name)  # transformers takes its own defaults where it can't read these
    return info


def check_run(run: str | Path) -> None:
    """Look at a run before all is imported that opens it; what the hub is asked for is not looked at.

    Raises:
        CloseError: as `open_run`.
    """
    if not is_on_hub(run):
        open_run(run)


def code_of(run: str | Path, more: Iterable[str] = ()) -> dict[str, list[str]]:
    """What is kept beside what a run makes of the plug-ins that make it (`plugins_said`), files by their names alone.

    Args:
        more: plug-ins that are used besides the run's own.
    Raises:
        MissingError, DataError: as `open_run`; of a model that lies in no folder there are those of `more`.
    """
    own = open_run(run).get("plugins", []) if (Path(run) / RUN_FILE).is_file() else []
    return plugins_said(dict.fromkeys(map(short_name, [*own, *more])))


def task_among(tasks: Sequence[str], name: str | None) -> str:
    """One of a run's tasks; its first where none is named.

    Raises:
        UnknownNameError: it has not learnt it.
    """
    if name is not None and name not in tasks:
        raise unknown_name("task of this run", name, tasks)
    return name or tasks[0]


def is_finished(folder: Path, recipe: Recipe, *, resume: bool, overwrite: bool) -> bool:
    """Make sure that the folder is free, or this run's; True where that is finished already. Nothing in it is changed.

    Raises:
        OutputExistsError: something else is there, a run that is neither to be resumed nor to be overwritten, or one that was
            trained on what has changed since.
    """
    if not folder.exists() or (folder.is_dir() and all(map(is_temporary, _files(folder)))):
        return False
    started = _started(folder)
    # not by its recipe: anyone may keep one there
    if started is None and not (folder / RUN_FILE).is_file():
        raise OutputExistsError(f"{folder} exists and is no run; choose another output")
    if overwrite:
        return False
    if not resume:
        raise OutputExistsError(
            f"{folder} already holds a run: continue it with --resume, or replace it with --overwrite "
            "(in Python: resume=True or overwrite=True)"
        )
    if different := _different(folder, recipe, started or {}):
        onward = f"; init_from={folder} begins from what it has learnt" if (folder / RUN_FILE).is_file() else ""
        raise OutputExistsError(
            f"{folder} holds a run of another recipe ({'; '.join(different)}): resume with the same one, or choose another "
            f"output{onward}"
        )
    if (started or {}).get("replacing") or not (folder / RUN_FILE).is_file():
        return False
    if changed := changed_source(recipe, read_plain(folder / RUN_FILE)):
        raise OutputExistsError(
            f"{folder} is finished, and {changed} has changed since it was trained: remove that folder to train it anew, or "
            "choose another output"
        )
    return True


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def _started(folder: Path) -> dict[str, Any] | None:
    file = folder / STARTED
    found = read_plain(file) if file.is_file() else None
    keys = ("recipe", "origin", "data", "beside", "how", "code")
    if found and (wrong := [key for key in keys if not isinstance(found.get(key, {}), dict)]):
        raise DataError(f"{file}: damaged, {wrong[0]} is {shown(found[wrong[0]])}; remove {folder}, and train again")
    return found


def started_run(folder: Path) -> dict[str, Any] | None:
    """What a run under way wrote down when it began; None where none has begun, or what was there is still being replaced."""
    found = _started(folder)
    return None if found is None or found.get("replacing") else found


def recipe_of(folder: Path) -> dict[str, Any]:
    """The recipe that a run began with, finished or not, with its places in full; nothing where there is none."""
    if (started := _started(folder)) and "recipe" in started:
        return dict(started["recipe"])
    own = folder / RECIPE_FILE
    return absolute(read_values(own)) if own.is_file() else {}


def _different(folder: Path, recipe: Recipe, started: dict[str, Any]) -> list[str]:
    """In what the recipe of a run differs from this one, in words."""
    own = folder / RECIPE_FILE
    theirs = _mapping(own) if own.is_file() else {}
    if "recipe" in started and (started.get("replacing") or not theirs):  # what lies there may still be another run's
        theirs = portable(started["recipe"], folder)
    given, theirs = recipe.dump(), upgraded(theirs)
    ours = portable(given, folder)
    defaults = {key: field.get_default(call_default_factory=True) for key, field in Recipe.model_fields.items()}
    for name in ("data", "training"):  # of before a setting was there
        if isinstance(section := theirs.get(name), dict):
            theirs[name] = defaults[name].model_dump(mode="json") | section
    # runs of before keep places as they were given; and links may lead to a place, or to the run
    changed = [key for key in ours if theirs.get(key, defaults[key]) not in (ours[key], given[key])]
    if changed:
        there, here = relative(seen_in(theirs, str(folder)), folder), relative(given, folder)
        changed = [key for key in changed if there.get(key, defaults[key]) != here[key]]
    return [line for key in changed for line in _differences(key, theirs.get(key, defaults[key]), ours[key])]


def _differences(key: str, theirs: Any, ours: Any) -> Iterator[str]:
    """`training.epochs: 30 there, 10 here`, of all that differs below a key."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in theirs | ours:
            # what is there without a value (`adapter: {shared: null}`) is another thing than what is not there
            if name not in theirs or name not in ours or theirs[name] != ours[name]:
                yield from _differences(f"{key}.{name}", theirs.get(name, _ABSENT), ours.get(name, _ABSENT))
    else:
        there, here = ("nothing" if value is _ABSENT else shown(value) for value in (theirs, ours))
        yield f"{key}: {there} there, {here} here"


def _mapping(file: Path) -> dict[str, Any]:
    """What a YAML file says; nothing where it is no mapping."""
    values = read_yaml(file)
    return values if isinstance(values, dict) else {}


def begin_run(
    folder: Path,
    recipe: Recipe,
    *,
    encoder: str,
    data: dict[str, str],
    resume: bool,
    beside: Mapping[str, str] | None = None,
    code: Mapping[str, Any] | None = None,
    how: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Mark the folder as this run's; what it was before goes, unless the run is resumed. May be killed and done again.

    Args:
        encoder: its fingerprint. data: the sums of the data files, by path. beside: of what else it learns from (`sums_beside`).
        code: what is kept of its plug-ins (`plugins_said`).
        how: what beside the recipe decides its steps, by name. origin: what is recorded of the run that it begins from.
    Raises:
        OutputExistsError: encoder, data or plug-ins have changed since the run that is to be resumed began, or its steps would be
            others.
    """
    if resume and started_run(folder) is not None:
        check_goes_on(folder, encoder=encoder, data=data, beside=beside, code=code or {}, how=how)
        clear(folder)
        clear(folder / CHECKPOINTS)
    else:
        facts: dict[str, Any] = {"encoder": encoder, "data": _seen_from(folder, data), "how": dict(how or {})}
        facts |= {"beside": _seen_from(folder, beside), "code": dict(code or {})}
        facts |= {"origin": dict(origin)} if origin else {}
        about = {"recipe": absolute(recipe.dump())} | facts
        write_json(folder / STARTED, about | {"replacing": True})  # until the last of what was there is gone
        (folder / RUN_FILE).unlink(missing_ok=True)
        for path in (*folder.iterdir(), *(folder / CHECKPOINTS).iterdir()):
            if path not in (folder / CHECKPOINTS, folder / STARTED):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        write_json(folder / STARTED, about)
    write_text(folder / RECIPE_FILE, yaml.safe_dump(portable(recipe.dump(), folder), sort_keys=False))


def check_goes_on(
    folder: Path,
    *,
    encoder: str,
    data: Mapping[str, str],
    beside: Mapping[str, str] | None = None,
    code: Mapping[str, Any] | None = None,
    how: Mapping[str, Any] | None = None,
) -> None:
    """Refuse to go on with a run in other ways than it began; what is not known yet is not compared.

    Args:
        as `begin_run` takes them.
    Raises:
        OutputExistsError: encoder, data or plug-ins have changed since it began, or its steps would be others.
    """
    before = _started(folder) or {}
    now, others = {"encoder": encoder} | _seen_from(folder, data), _seen_from(folder, beside)
    then, known = {"encoder": before.get("encoder"), **(before.get("data") or {})}, before.get("beside", {})
    changed = [name for name, fact in now.items() if fact != then.get(name)]
    # a run of before said less of these
    changed += [name for name, fact in others.items() if known.get(name, fact) != fact]
    changed += [] if code is None else changed_plugins(before.get("code", {}), code)
    if changed:
        raise OutputExistsError(
            f"{folder}: {changed[0]} has changed since the run began; remove that folder to start anew, or choose another "
            "output"
        )
    _refuse_other_steps(folder, before.get("how", {}), how or {})


def _seen_from(folder: Path, sums: Mapping[str, str] | None) -> dict[str, str]:
    """Sums by places, or references of models, as seen from a folder."""

    def near(place: str) -> str:
        return seen_through(place, folder)

    known = {name: digest for name, digest in (sums or {}).items() if digest}
    plain = {name for name in known if os.path.isabs(name) or os.path.exists(name)}
    return {near(name) if name in plain else moved_reference(name, near): known[name] for name in known}


def _refuse_other_steps(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on otherwise than a run began; one of before did not say how."""
    if other := [f"{key} {then[key]} (now {value})" for key, value in now.items() if then.get(key, value) != value]:
        raise OutputExistsError(
            f"{folder}: the run began with {', '.join(other)}, and would go on with other steps: resume it as it began, or "
            "remove that folder to start anew"
        )


def tidy(folder: Path) -> None:
    """Remove from a finished run's folder what it needed to be trained."""
    clear(folder)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


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
    model.config.language_model._name_or_path = ""  # a place on this machine
    # where the recipe has them: the configuration may name only their last part
    keep_words(model.config, word_lists(absolute(recipe.dump())["retrieve"], folder), folder)
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    write_text(folder / "log.jsonl", "".join(json.dumps(nan_as_null(entry)) + "\n" for entry in log))
    write_text(folder / "README.md", model_card(recipe, folder, about))
    config = model.config
    encoder = portable_reference(place_of(config.encoder, folder), folder)
    info = {
        "format": 1,
        "encoder": encoder,
        "fingerprint": config.encoder_fingerprint,
        "seed": recipe.seed,
        **about,
        "versions": versions(),
        "code": code_sums(),
    }
    write_json(folder / RUN_FILE, info)
    tidy(folder)
