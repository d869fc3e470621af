"""What is made of a model's weights once, and anew where one has changed since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["forget", "once"]

Made = TypeVar("Made")
_MADE: WeakKeyDictionary[nn.Module, tuple[Any, Any]] = WeakKeyDictionary()


def once(model: nn.Module, make: Callable[[Any], Made]) -> Made:
    """`make(model)`, remembered as long as the model lives and its weights stay."""
    version = (make, *((weight.data_ptr(), weight.dtype, weight._version) for weight in model.parameters()))
    if model not in _MADE or _MADE[model][0] != version:
        _MADE[model] = (version, make(model))
    made: Made = _MADE[model][1]
    return made


def forget(model: nn.Module) -> None:
    """Let go of what was made of the model's weights, which the next step of a training changes."""
    _MADE.pop(model, None)
