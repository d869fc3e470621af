"""LoRA (Hu et al., ICLR 2022): which layers it adapts, and its factors, which a run keeps instead of a language model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from close.errors import RecipeError, WeightsError, listed

__all__ = ["FACTOR", "add_factors", "factors_of", "lora_targets", "together"]

FACTOR = re.compile(r"language_model\.(.+)\.lora_([AB])")
"""How a run names a factor of a layer: W + BA, with LoRA's scale in B."""
_GUESSES = (("q_proj", "v_proj"), ("q", "v"), ("query", "value"), ("c_attn",), ("qkv_proj",), ("query_key_value",))


def lora_targets(language_model: nn.Module, given: str | list[str] | None) -> str:
    """A regular expression of the layers that LoRA adapts, named as below the whole model.

    Args:
        given: such an expression, or the ends of their names; without it what PEFT's table says of the model's architecture, or
            the queries and values by their usual names.
    Raises:
        RecipeError: there are no such layers, they are no linear ones, or another layer has the same weights.
    """
    layers = {f"language_model.{name}": layer for name, layer in language_model.named_modules()}
    if given is None:
        kind: Any = getattr(language_model.config, "model_type", "unknown")
        found = next((one for one in _usual(kind) if _matching(layers, one)), None)
        if found is None:
            raise RecipeError(
                f"lora.target_modules: nothing is known of architecture {kind!r}: name them, of {_some(layers)}"
            )
        return found
    pattern = given if isinstance(given, str) else _ends(given)
    try:
        matching = _matching(layers, pattern)
    except re.error as error:
        raise RecipeError(f"lora.target_modules {given!r} is no regular expression ({error})") from None
    if not matching:
        raise RecipeError(
            f"lora.target_modules {given!r}: the language model has no such layers; it has {_some(layers)}"
        )
    if other := next((name for name in matching if not isinstance(layers[name], (nn.Linear, Conv1D))), None):
        raise RecipeError(
            f"lora.target_modules {given!r}: {other} is a {type(layers[other]).__name__}, not a linear layer"
        )
    # kept, so that each has an id of its own
    weights = {name: getattr(layer, "weight", None) for name, layer in layers.items()}
    sharing: dict[int, list[str]] = {}
    for name, weight in weights.items():
        sharing.setdefault(id(weight), []).append(name)
    for name in matching:
        if other := next((other for other in sharing[id(weights[name])] if other != name), None):
            raise RecipeError(
                f"lora.target_modules {given!r}: {name} has the weights of {other}, which would change with it when what was "
                "learnt is put in; leave it out"
            )
    return pattern


def _usual(kind: str) -> list[str]:
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TABLE

    known = TABLE.get(kind, ())
    return [*([known] if isinstance(known, str) else [_ends(known)] if known else []), *map(_ends, _GUESSES)]


def _ends(names: Any) -> str:
    return rf"language_model\.(.*\.)?({'|'.join(map(re.escape, names))})"


def _matching(layers: Mapping[str, nn.Module], pattern: str) -> list[str]:
    return [name for name in layers if re.fullmatch(pattern, name)]


def _some(layers: Mapping[str, nn.Module]) -> str:
    """The last parts of the names of linear layers."""
    return listed(
        dict.fromkeys(name.rpartition(".")[2] for name, one in layers.items() if isinstance(one, (nn.Linear, Conv1D)))
    )


def factors_of(model: nn.Module) -> dict[str, Tensor]:
    """The factors that PEFT has trained in a model, as a run names them."""
    found: dict[str, Tensor] = {}
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_A") and "default" in layer.lora_A:
            a, b = (getattr(layer, f"lora_{side}")["default"].weight.detach().float().cpu() for side in "AB")
            found[f"{name}.lora_A"] = a.clone()
            found[f"{name}.lora_B"] = b * layer.scaling["default"]
    return found


def together(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The factors of what two sets of factors add: those of a layer that is in both lie side by side."""
    both = {**first, **second}
    for name in first.keys() & second.keys():
        both[name] = torch.cat([first[name], second[name]], dim=0 if name.endswith("A") else 1)
    return both


@torch.no_grad()
def add_factors(language_model: nn.Module, factors: Mapping[str, Tensor], where: str) -> None:
    """Add what the factors say to a language model's weights.

    Raises:
        WeightsError: a factor is of no layer of it, lacks the other one, or does not fit.
    """
    layers = dict(language_model.named_modules())
    for name, factor in factors.items():
        parts = FACTOR.fullmatch(name)
        layer = layers.get(parts[1]) if parts else None
        if parts is None or not isinstance(layer, (nn.Linear, Conv1D)):
            raise WeightsError(f"{where}: {name!r} is of no linear layer of its language model")
        other = factors.get(f"{name[:-1]}{'B' if parts[2] == 'A' else 'A'}")
        a, b = (factor, other) if parts[2] == "A" else (other, factor)
        if a is None or b is None:
            raise WeightsError(f"{where}: {name!r} is there, and its other factor is missing")
        weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
        if a.ndim != 2 or b.ndim != 2 or (b.shape[0], a.shape[1]) != weight.shape or b.shape[1] != a.shape[0]:
            raise WeightsError(
                f"{where}: {name!r} is {list(factor.shape)}, which does not fit a layer of {list(weight.shape)}"
            )
        if parts[2] == "A":
            weight += (b.float() @ a.float()).to(weight)
