"""People's own parts: modules and files that register adapters, tasks, metrics, measures, encoders, prefixes and readers.

A plug-in is any Python file that uses the registries' decorators. It is named by whoever runs the command (`--plugin`), by the
recipe (`plugins:`), or by an installed package (the entry-point group `close.plugins`). Nothing else is ever imported: a run
remembers the names of its plug-ins, and only says so when they are not loaded.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path, PureWindowsPath
from typing import Any

from close.errors import MissingError, RecipeError, shown, warn_once

__all__ = [
    "GROUP",
    "changed_plugins",
    "check_plugins",
    "is_file",
    "key_of",
    "load_installed",
    "load_plugins",
    "loaded",
    "loading",
    "plugin_code",
    "plugins_said",
    "short_name",
    "sum_of_code",
    "tell_changed",
]

GROUP = "close.plugins"
Name = str | os.PathLike[str]
_log = logging.getLogger(__name__)
_loaded: dict[str, str] = {}
"""Of each a SHA-256 of its code, as it was when it was loaded: what runs is that, whatever its file has become."""
_loading: list[str] = []


def load_plugins(names: Name | Iterable[Name]) -> None:
    """Import modules (`my_package.parts`) and files (`./parts.py`), each once; what they register can be named from then on.

    Args:
        names: one alone, or several.
    Raises:
        MissingError: there is no such file or module. Errors of its own keep their traceback.
        RecipeError: what is given is no name.
    """
    for given in [names] if isinstance(names, (str, os.PathLike)) or names is None else names:
        if not isinstance(given, (str, os.PathLike)):
            raise RecipeError(f"a plug-in is a module's name or a file (./parts.py), not {shown(given)}")
        name = os.fspath(given)
        key = key_of(name)
        if key not in _loaded:
            _loading.append(key)
            try:
                found = _import(name, key)
            finally:
                _loading.pop()
            _loaded[key] = found


def load_installed() -> None:
    """Import what installed packages offer in the entry-point group `close.plugins`."""
    load_plugins(entry.value.partition(":")[0] for entry in entry_points(group=GROUP))


def loaded() -> list[str]:
    """The plug-ins that are loaded, as `load_plugins` takes them: files by their whole path."""
    return list(_loaded)


def loading() -> str | None:
    """The plug-in that is being imported right now, which registries keep with what it brings; what it has of ours is ours."""
    frame = sys._getframe(1) if _loading else None
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    module = str(frame.f_globals.get("__name__")) if frame is not None else ""
    return None if not _loading or module.partition(".")[0] in ("close", "data_gen") else _loading[-1]


def plugins_said(names: Iterable[str]) -> dict[str, list[str]]:
    """What is kept of plug-ins beside what is made with them: `plugins`, their names, and in their order `plugin_sums`.

    A sum is a SHA-256 of the code that was loaded, without comments and layout; empty of what is not loaded, or has no file. A
    module is its own file, and a package all of its Python files; what else they import is not looked at.
    """
    exact = [
        (name, _loaded.get(key_of(name)) if not is_file(name) or name != short_name(name) else None) for name in names
    ]
    # of a name without its folders, which several may have, all are kept
    pairs = [(name, own) for name, known in exact for own in ([known] if known else sorted(_sums_of(name)) or [""])]
    return {"plugins": [name for name, _ in pairs], "plugin_sums": [own for _, own in pairs]}


def plugin_code(about: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Names, a file's without its folders, and sums of the plug-ins that something keeps; those without a sum are left out."""
    names, sums = (found if isinstance(found := about.get(key), list) else [] for key in ("plugins", "plugin_sums"))
    pairs = [(name, own) for name, own in zip(names, sums, strict=False) if isinstance(name, str)]
    return {(short_name(name), own) for name, own in pairs if isinstance(own, str) and own}


def changed_plugins(about: Mapping[str, Any], now: Mapping[str, Any] | None = None) -> list[str]:
    """The plug-ins, by name, whose code is another one now than when something was made with them.

    Args:
        about: what is kept beside that. now: what is kept beside something else; without it, those that are loaded are compared.
    """
    others = None if now is None else plugin_code(now)
    found = set()
    for name, own in plugin_code(about):
        sums = _sums_of(name) if others is None else {other for named, other in others if named == name}
        found |= {name} if sums - {""} and own not in sums else set()
    return sorted(found)


def tell_changed(place: Path, about: Mapping[str, Any], since: str) -> None:
    """Warn, once, where plug-ins have other code than something was made with.

    Args:
        place: where that is. about: what is kept beside it. since: what was done with them, and what may follow, for the message.
    """
    if changed := changed_plugins(about):
        warn_once(_log, f"{place}: {', '.join(changed)} has changed since {since}")


def _sums_of(name: str) -> set[str]:
    """The sums of loaded plug-ins of that name, wherever they lie."""
    return {own for key, own in _loaded.items() if short_name(key) == short_name(name)}


def check_plugins(names: Iterable[str], user: str) -> None:
    """Say which plug-ins something needs that are not loaded; they are never loaded without being asked for.

    A file is known by its name: it may lie elsewhere than where it was used first.

    Raises:
        MissingError: names them, and how to load them.
    """
    there = set(map(short_name, _loaded))
    missing = [name if os.path.isfile(name) else short_name(name) for name in names if short_name(name) not in there]
    if missing:
        flags = " ".join(f"--plugin {name}" for name in missing)
        raise MissingError(
            f"{user} was made with parts of {', '.join(missing)}, which is not loaded: add {flags} "
            f"(in Python: close.load_plugins({missing!r})) if you trust it"
        )


def is_file(name: str) -> bool:
    """Whether a plug-in's name is that of a file, and not of a module."""
    return name.endswith(".py") or "/" in name or "\\" in name


def key_of(name: str) -> str:
    """A plug-in's name as it is remembered: a file by its whole path."""
    return str(Path(name).resolve()) if is_file(name) else name


def short_name(name: str) -> str:
    """A file's name without its folders, those of another system too."""
    return PureWindowsPath(name).name if is_file(name) else name


def _import(name: str, key: str) -> str:
    """Import a plug-in; a SHA-256 of its code."""
    if not is_file(name):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the plug-in is there, and lacks something itself
            raise MissingError(f"plugin {name}: no such module (a file is given as ./{name}.py)") from None
        return _sum_of_module(name)
    if not Path(key).is_file():
        raise MissingError(f"plugin {name}: no such file")
    module_name = f"close_plugin_{Path(key).stem}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, key)
    if spec is None or spec.loader is None:
        raise MissingError(f"plugin {name}: not a Python file (it ends in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    found = sum_of_code(Path(key))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return found


def _sum_of_module(name: str) -> str:
    """A SHA-256 of a module's file, or of a package's Python files; nothing of one that has none."""
    module = sys.modules[name]
    if folders := getattr(module, "__path__", None):
        files = sorted((file.relative_to(folder), file) for folder in folders for file in Path(folder).rglob("*.py"))
    else:
        files = [(Path(), Path(getattr(module, "__file__", None) or ""))]
    found = [(str(place), sum_of_code(file)) for place, file in files if file.is_file()]
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else ""


def sum_of_code(file: Path) -> str:
    """A SHA-256 of what a file does: comments, layout and line ends change nothing; of its bytes, where it is no Python."""
    source = file.read_bytes()
    with suppress(SyntaxError, ValueError, RecursionError):
        source = _dump(ast.parse(source)).encode()
    return hashlib.sha256(source).hexdigest()


def _dump(node: Any) -> str:
    """What Python 3.11 makes by `ast.dump`, whichever runs: later ones write more, or less, of what is empty."""
    parts = []
    if isinstance(node, list):
        for one in node:
            parts.append(_dump(one))
        return f"[{', '.join(parts)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    for name, value in ast.iter_fields(node):
        is_left_out = value is None and getattr(type(node), name, ...) is None
        if not is_left_out and not (name == "type_params" and not value):
            parts.append(f"{name}={_dump(value)}")
    return f"{type(node).__name__}({', '.join(parts)})"
