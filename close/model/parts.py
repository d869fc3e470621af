"""A model whose files hold only what was trained: adapter, prefix and LoRA's factors, beside a language model by reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GenerationConfig

from close.adapters import build_adapter
from close.errors import MismatchError, RecipeError, UnknownNameError, WeightsError
from close.io.plain import read_plain
from close.io.pretrained import loading, refuse_bad_weights
from close.io.tensors import check_shapes, stored_shapes
from close.model.configuration import CloseConfig
from close.model.language_models.reference import load_base
from close.model.limits import check_config, check_generation
from close.model.lora import FACTOR, add_factors
from close.model.prefixes import build_prefix

__all__ = ["is_partial", "load_parts", "parts_of"]

WEIGHTS = "model.safetensors"


def is_partial(folder: Path) -> bool:
    """Whether a folder's model names its language model instead of holding it."""
    return (folder / "config.json").is_file() and read_plain(folder / "config.json").get("base") is not None


def parts_of(model: Any, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """What is stored of such a model.

    Args:
        state: its weights, where the model itself holds only a part of them.
    """
    whole = model.state_dict() if state is None else state
    own = {name: value for name, value in whole.items() if not name.startswith("language_model.")}
    return own | {name: value.contiguous() for name, value in model.factors.items()}


def load_parts(build: Callable[[CloseConfig, Any], Any], folder: Path, place: str | None = None) -> Any:
    """The model in a folder, put together.

    Args:
        build: a `CloseModel` of its configuration and a language model. place: where the language model is now, if elsewhere.
    Raises:
        WeightsError: a file is damaged, or asks for what no run asks for. MissingError, MismatchError: see `load_base`.
    """
    check_generation(folder)
    stored, about = stored_shapes(folder, WEIGHTS), read_plain(folder / "config.json")
    own = {
        key: value for key, value in about.items() if key != "language_model"
    }  # whose own is looked at when that is loaded
    check_config(own, max(len(stored), 1), f"{folder / 'config.json'}")
    with loading(f"{folder}: the model can't be loaded"):
        config = CloseConfig.from_pretrained(folder)
    language_model = load_base(config.base, folder, place)
    config.language_model = language_model.config
    try:
        check_shapes(lambda: _own(config, language_model), stored, f"{folder}")
    except (MismatchError, RecipeError, UnknownNameError) as error:
        raise WeightsError(f"{folder / 'config.json'}: {error}") from None
    with loading(f"{folder}: the model can't be loaded"):
        state = load_file(folder / WEIGHTS)
        model = build(config, language_model)
    if bad := next((name for name, value in state.items() if value.is_floating_point() and value.isnan().any()), None):
        raise WeightsError(f"{folder}: {bad!r} holds NaN; get the file again, or another checkpoint")
    model.factors = {name: value for name, value in state.items() if FACTOR.fullmatch(name)}
    rest = {name: value for name, value in state.items() if name not in model.factors}
    if unknown := next((name for name in rest if name.startswith("language_model.")), None):
        raise WeightsError(f"{folder}: {unknown!r} is no part that is trained beside a language model by reference")
    model.load_state_dict(rest, strict=False)
    add_factors(model.language_model, model.factors, f"{folder}")
    model.adapter.load_files(folder)
    with loading(f"{folder}: the model can't be loaded"):
        model.generation_config = GenerationConfig.from_pretrained(folder)
    refuse_bad_weights(model, f"{folder}")
    return model.eval()


def _own(config: CloseConfig, language_model: Any) -> nn.Module:
    """Prefix and adapter of a configuration, named as in the whole model."""
    parts = nn.Module()
    with torch.device("meta"):
        width = language_model.get_input_embeddings().embedding_dim
        parts.prefix = build_prefix(config.prefix, config.embed_dim, width)
        parts.adapter = build_adapter(config.adapter, config.embed_dim)
    return parts
