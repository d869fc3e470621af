"""What tells a model's weights from others."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from close.fast.int8 import Int8Linear
from close.fast.packing import PackedLinear

__all__ = ["fingerprint", "taken"]

_TAKEN = "_close_taken"
"""Where a model keeps who took it first (`taken`), its fingerprint then, and the `_mark` of what that left of it."""


def fingerprint(model: nn.Module) -> str:
    """32 hex digits that change when any weight does: SHA-256 over names, shapes and values of the state in float32."""
    return _sum(model, {}, {})


@contextmanager
def taken(model: nn.Module, kind: str) -> Iterator[str]:
    """The fingerprint of a model that an encoder is made of, which may pack its weights within; empty where torch has none of it.

    One that another encoder was made of, whole or a part of this, and that holds the same weights since, counts as it was before
    it was packed; and with the kind, which makes vectors of its own of it.

    Args:
        kind: the encoder's class.
    """
    found = {name: (module, own) for name, module in model.named_modules() if (own := module.__dict__.get(_TAKEN))}
    same = {name: own[:2] for name, (module, own) in found.items() if own[2] == _mark(module)}
    packed = {name: own[:2] for name, (module, own) in found.items() if name not in same and _is_packed(module)}
    if same.get("", ("", ""))[0] == kind:  # of one class: the same model is loaded again
        total = same[""][1]
    else:
        total = _sum(model, same, packed, kind) if found or model.state_dict() else ""
    yield total
    if total:
        kept = {name: found[name][0] for name in same} | {"": model}
        for name, module in kept.items():
            module.__dict__[_TAKEN] = (*same.get(name, (kind, total)), _mark(module))


def _is_packed(model: nn.Module) -> bool:
    """Whether it has weights that its state does not say."""
    return any(isinstance(module, (PackedLinear, Int8Linear)) for module in model.modules())


def _mark(model: nn.Module) -> int:
    """What changes with the weights of this process's model as they lie there; many times quicker than a fingerprint."""
    total = 0
    for name, value in sorted(model.state_dict().items()):
        total = zlib.crc32(f"{name}{tuple(value.shape)}{value.dtype}".encode(), total)
        total = zlib.crc32(_bytes(value), total)
    return total


def _sum(model: nn.Module, same: dict[str, tuple[str, str]], packed: dict[str, tuple[str, str]], kind: str = "") -> str:
    """Of the state, but what lies in a place that is still the `same`; of `packed` places what was known, too."""
    known = same | packed
    digest = hashlib.sha256(f"{kind}{sorted(known.items())}".encode() if known else b"")
    for name, value in sorted(model.state_dict().items()):
        if any(f"{name}.".startswith(f"{place}." if place else "") for place in same):
            continue
        if torch.is_floating_point(value):
            value = value.float()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()[:32]


def _bytes(value: Tensor) -> Any:
    return b"" if value.is_meta else value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
