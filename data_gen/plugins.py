"""People's own verbs and filters: any Python file or module that uses `VERBS.register` or `FILTERS.register`.

It is named by whoever runs the command (`--plugin`), or offered by an installed package in the entry-point group
`data_gen.plugins`; nothing else is ever imported.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from data_gen.errors import InputError

__all__ = ["GROUP", "load_installed", "load_plugins"]

GROUP = "data_gen.plugins"
_loaded: set[str] = set()


def load_plugins(names: Iterable[str]) -> None:
    """Import modules (`my_package.verbs`) and files (`./verbs.py`), each once.

    Raises:
        InputError: there is no such file or module. Errors of its own keep their traceback.
    """
    for name in names:
        is_file = name.endswith(".py") or "/" in name or "\\" in name
        key = str(Path(name).resolve()) if is_file else name
        if key not in _loaded:
            (_import_file if is_file else _import_module)(key)
            _loaded.add(key)


def load_installed() -> None:
    """Import what installed packages offer in the entry-point group `data_gen.plugins`."""
    load_plugins(entry.value.partition(":")[0] for entry in entry_points(group=GROUP))


def _import_module(name: str) -> None:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the plug-in is there, and lacks something itself
        raise InputError(f"no module {name!r} for --plugin (a file is given as ./{name}.py)") from None


def _import_file(path: str) -> None:
    if not path.endswith(".py") or not Path(path).is_file():
        raise InputError(f"no Python file {path} for --plugin")
    name = f"data_gen_plugin_{Path(path).stem}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None  # a file that ends in .py has one
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
