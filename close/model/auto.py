"""After `import close`, transformers' `AutoModel` takes a run, and `import close` still loads nothing of transformers.

transformers has no door for that: its table of configurations is told when its module is imported, or at once where it has been.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["announce"]

_TABLE = "transformers.models.auto.configuration_auto"


class _Later:
    """Stands for `CloseConfig` until a configuration is read, which imports the model."""

    model_type = "close"

    @classmethod
    def from_dict(cls, values: dict[str, Any], **options: Any) -> Any:
        from close.model.modeling import CloseModel

        return CloseModel.config_class.from_dict(values, **options)


class _Watch(MetaPathFinder):
    """Sees the module of the table being imported, once."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _TABLE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            run = spec.loader.exec_module

            def run_and_tell(module: ModuleType) -> None:
                run(module)
                _tell(module)

            spec.loader.exec_module = run_and_tell  # type: ignore[method-assign]
        return spec


def announce() -> None:
    """Make runs known to transformers."""
    if _TABLE in sys.modules:
        _tell(sys.modules[_TABLE])
    else:
        sys.meta_path.insert(0, _Watch())


def _tell(module: ModuleType) -> None:
    table = getattr(module, "CONFIG_MAPPING", None)
    if table is not None and _Later.model_type not in table:
        table.register(_Later.model_type, _Later)
