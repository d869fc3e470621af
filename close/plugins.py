"""People's own parts: modules and files that register adapters, tasks, metrics, measures, encoders, prefixes and readers.

A plug-in is any Python file that uses the registries' decorators. It is named by whoever runs the command (`--plugin`), by the
recipe (`plugins:`), or by an installed package (the entry-point group `close.plugins`). Nothing else is ever imported: a run
remembers the names of its plug-ins, and only says so when they are not loaded.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path, PureWindowsPath

from close.errors import MissingError

__all__ = ["GROUP", "check_plugins", "is_file", "key_of", "load_installed", "load_plugins", "loaded", "loading"]

GROUP = "close.plugins"
_loaded: dict[str, None] = {}
_loading: list[str] = []


def load_plugins(names: Iterable[str]) -> None:
    """Import modules (`my_package.parts`) and files (`./parts.py`), each once; what they register can be named from then on.

    Raises:
        MissingError: there is no such file or module. Errors of its own keep their traceback.
    """
    for name in names:
        key = key_of(name)
        if key not in _loaded:
            _loading.append(key)
            try:
                _import(name, key)
            finally:
                _loading.pop()
            _loaded[key] = None


def load_installed() -> None:
    """Import what installed packages offer in the entry-point group `close.plugins`."""
    load_plugins(entry.value.partition(":")[0] for entry in entry_points(group=GROUP))


def loaded() -> list[str]:
    """The plug-ins that are loaded, as `load_plugins` takes them: files by their whole path."""
    return list(_loaded)


def loading() -> str | None:
    """The plug-in that is being imported right now, which registries keep with what it brings."""
    return _loading[-1] if _loading else None


def check_plugins(names: Iterable[str], user: str) -> None:
    """Say which plug-ins something needs that are not loaded; they are never loaded without being asked for.

    A file is known by its name: it may lie elsewhere than where it was used first.

    Raises:
        MissingError: names them, and how to load them.
    """
    there = set(map(_short, _loaded))
    missing = [name if os.path.isfile(name) else _short(name) for name in names if _short(name) not in there]
    if missing:
        flags = " ".join(f"--plugin {name}" for name in missing)
        raise MissingError(
            f"{user} was made with parts of {', '.join(missing)}, which is not loaded: add {flags} "
            f"(in Python: close.plugins.load_plugins({missing!r})) if you trust it"
        )


def is_file(name: str) -> bool:
    """Whether a plug-in's name is that of a file, and not of a module."""
    return name.endswith(".py") or "/" in name or "\\" in name


def key_of(name: str) -> str:
    """A plug-in's name as it is remembered: a file by its whole path."""
    return str(Path(name).resolve()) if is_file(name) else name


def _short(name: str) -> str:
    """A file's name without its folders, those of another system too."""
    return PureWindowsPath(name).name if is_file(name) else name


def _import(name: str, key: str) -> None:
    if not is_file(name):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the plug-in is there, and lacks something itself
            raise MissingError(f"plugin {name}: no such module (a file is given as ./{name}.py)") from None
        return
    if not Path(key).is_file():
        raise MissingError(f"plugin {name}: no such file")
    module_name = f"close_plugin_{Path(key).stem}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, key)
    if spec is None or spec.loader is None:
        raise MissingError(f"plugin {name}: not a Python file (it ends in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
