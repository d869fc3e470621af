"""Tensors in files, looked at before memory is taken for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from close.errors import WeightsError, reason
from close.io.plain import read_plain

__all__ = ["check_shapes", "stored_shapes"]


def stored_shapes(folder: Path, name: str) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a safetensors file, or of its parts where an index names them; no tensor is read.

    Raises:
        WeightsError: a file is missing or damaged.
    """
    index = folder / f"{name}.index.json"
    parts = {str(part) for part in _names(read_plain(index))} if index.is_file() else {name}
    shapes: dict[str, tuple[int, ...]] = {}
    for part in sorted(parts):
        if Path(part).name != part or not (folder / part).is_file():
            raise WeightsError(f"{folder / part}: no such file; copy the whole folder")
        try:
            with safe_open(folder / part, framework="pt") as tensors:
                shapes |= {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{folder / part}: damaged ({reason(error, whole=False)}); copy it again") from None
    return shapes


def _names(index: Mapping[str, Any]) -> list[Any]:
    weights = index.get("weight_map")
    return list(weights.values()) if isinstance(weights, dict) else []


def check_shapes(build: Callable[[], nn.Module], stored: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Build without memory what files describe, and compare each tensor with the one that is stored.

    Raises:
        WeightsError: one is of another shape, or missing.
    """
    with torch.device("meta"):
        skeleton = build()
    names: dict[int, list[str]] = {}
    tensors = [*skeleton.named_parameters(remove_duplicate=False), *skeleton.named_buffers(remove_duplicate=False)]
    kept = set(skeleton.state_dict())
    for name, tensor in tensors:
        names.setdefault(id(tensor), []).append(name)
        if name in stored and tuple(tensor.shape) != stored[name]:
            raise WeightsError(
                f"{where}: {name} is stored as {list(stored[name])}, and the configuration makes it {list(tensor.shape)}"
            )
    missing = [alike[0] for alike in names.values() if kept & set(alike) and not stored.keys() & set(alike)]
    if missing:
        raise WeightsError(f"{where}: {len(missing)} missing weights, {min(missing)!r} first")
