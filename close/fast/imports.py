"""Starting up without what is imported and never used: compilers, tensors over processes, losses of detectors, image models.

transformers' models import torch's compiler, its distributed tensors, and SciPy, which takes longer than torch itself, for names
that a process which only uses a run never calls. While a module of transformers or open_clip is imported, stand-ins take
their place. What is asked of a stand-in later is asked of the real thing, which is imported then: nothing goes missing.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from close.fast.switch import is_allowed

__all__ = ["light_imports"]

COMPILER, MARKS = "torch._dynamo", "torch._compile"
LATER = (
    COMPILER,
    "timm",
    "torch.nn.attention.flex_attention",
    *(
        f"transformers.loss.loss_{name}"
        for name in ("d_fine", "deformable_detr", "deimv2", "for_object_detection", "grounding_dino", "lw_detr")
    ),
    *(f"transformers.loss.loss_{name}" for name in ("rf_detr", "rt_detr")),
)
"""Modules that stand-ins take the place of, with all below them."""


def light_imports() -> None:
    """From now on, this process imports models without what only training, compiling and detecting need.

    For a process that uses models and trains none: to transformers, it has no `torch.distributed`. Nothing happens with
    `CLOSE_FAST=0`, in a process that is one of several, or where transformers is imported already.
    """
    if is_allowed() and "WORLD_SIZE" not in os.environ and "transformers" not in sys.modules:
        sys.meta_path.insert(0, _Watch())


class _Watch(MetaPathFinder):
    """Sees modules of torch, transformers and open_clip being imported; the outermost one decides how."""

    depth = 0

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        known = name.partition(".")[0] in ("torch", "transformers", "open_clip")
        if name != MARKS and (not known or self.depth):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            run = _run_unmarked if name == MARKS else self._run
            spec.loader.exec_module = functools.partial(run, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec

    def _run(self, run: Callable[[ModuleType], None], module: ModuleType) -> None:
        before, self.depth = set(sys.modules), self.depth + 1
        try:
            with _uncollected():
                if module.__name__.startswith("torch"):
                    return run(module)
                try:
                    with _stand_ins():
                        run(module)
                except Exception:  # other versions, which need what stood aside: once more, with everything
                    for name in set(sys.modules) - before:
                        if name.partition(".")[0] in ("transformers", "open_clip"):
                            del sys.modules[name]
                    run(module)
        finally:
            self.depth -= 1


def _run_unmarked(run: Callable[[ModuleType], None], module: ModuleType) -> None:
    """torch marks functions for its compiler when they are first called, and imports it to that end: here none is marked."""
    run(module)
    if "_disable_dynamo" in vars(module):
        vars(module)["_disable_dynamo"] = lambda fn=None, recursive=True: fn or (lambda function: function)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Garbage isn't looked for among what stays: a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()


@contextmanager
def _stand_ins() -> Iterator[None]:
    finder = _StandIns()
    sys.meta_path.insert(0, finder)
    with _patched("torch.distributed", "is_available", lambda: False), _same_transformers():
        try:
            yield
        finally:
            finder.leave()


@contextmanager
def _same_transformers() -> Iterator[None]:
    """transformers' processors look for classes in a second copy of its table of contents; the first one is the same."""

    def itself(path: Any, file: str = "__init__.py") -> ModuleType:
        return sys.modules["transformers"]

    name = "direct_transformers_import"
    with _patched("transformers.utils", name, itself), _patched("transformers.utils.import_utils", name, itself):
        yield


@contextmanager
def _patched(module: str, name: str, value: Any) -> Iterator[None]:
    """Another value of a module's name, if it is there."""
    place = vars(sys.modules[module]) if module in sys.modules else {}
    if name not in place:
        yield
        return
    before, place[name] = place[name], value
    try:
        yield
    finally:
        place[name] = before


class _StandIns(MetaPathFinder, Loader):
    """Gives stand-ins for the modules of `LATER` that aren't imported yet, until it is told to leave."""

    def __init__(self) -> None:
        self.given: list[ModuleType] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if any(name == later or name.startswith(f"{later}.") for later in LATER):
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.given.append(_Module(spec.name, self))
        return self.given[-1]

    def exec_module(self, module: ModuleType) -> None:
        pass

    def leave(self) -> None:
        """The next import of these modules is a real one."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for module in self.given:
            parent, _, name = module.__name__.rpartition(".")
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
            if vars(sys.modules.get(parent, module)).get(name) is module:
                delattr(sys.modules[parent], name)


class _Module(ModuleType):
    """Has every name, as a stand-in."""

    def __init__(self, name: str, finder: _StandIns) -> None:
        super().__init__(name)
        self.__dict__["_finder"] = finder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(self.__name__, name, self.__dict__["_finder"])


class _Later:
    """A class or function of a module that is imported when it is used; a class that isn't there yet has no instances."""

    def __init__(self, module: str, name: str, finder: _StandIns) -> None:
        self._where, self._finder = (module, name), finder

    def _real(self) -> Any:
        self._finder.leave()
        return getattr(importlib.import_module(self._where[0]), self._where[1])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if (
            self._where[0] == COMPILER and self._finder in sys.meta_path
        ):  # a mark for the compiler: fn, or for the next function
            return args[0] if args and args[0] else lambda function: function
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        module = sys.modules.get(self._where[0])
        return module is not None and not isinstance(module, _Module) and isinstance(instance, self._real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __or__(self, other: Any) -> Any:
        return Any  # an annotation

    __ror__ = __or__
