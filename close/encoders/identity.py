"""What tells a model's weights from others."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

__all__ = ["fingerprint", "taken"]

_TAKEN = "_close_taken"
"""Where a model keeps who took it first (`taken`), and its fingerprint then."""


def fingerprint(model: nn.Module) -> str:
    """32 hex digits that change when any weight does: SHA-256 over names, shapes and values of the state in float32."""
    return _sum(model, {})


def taken(model: nn.Module, kind: str) -> str:
    """The fingerprint of a model that an encoder is made of; empty where torch has no weights of it.

    One that another encoder was made of, whole or a part of this, counts as it was then, for that may have packed its weights;
    and with the kind, which makes vectors of its own of it.

    Args:
        kind: the encoder's class.
    """
    known = {name: own for name, module in model.named_modules() if (own := module.__dict__.get(_TAKEN))}
    if known.get("", ("", ""))[0] == kind:  # of one class: the same model is loaded again
        return str(known[""][1])
    if not known and not model.state_dict():
        return ""
    found = _sum(model, known, kind)
    model.__dict__.setdefault(_TAKEN, (kind, found))
    return found


def _sum(model: nn.Module, known: dict[str, tuple[str, str]], kind: str = "") -> str:
    digest = hashlib.sha256(f"{kind}{sorted(known.items())}".encode() if known else b"")
    for name, value in sorted(model.state_dict().items()):
        if any(f"{name}.".startswith(f"{place}." if place else "") for place in known):
            continue
        if torch.is_floating_point(value):
            value = value.float()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
