"""The language model behind the prefix, before it is trained."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from close.errors import WeightsError
from close.io.pretrained import loading
from close.mini import LANGUAGE_MODEL_DIR

__all__ = ["count_weights", "language_model_place", "load_language_model"]


def language_model_place(reference: str) -> str:
    """Hub id or directory of a reference; `mini` is embedded."""
    return str(LANGUAGE_MODEL_DIR) if reference == "mini" else reference


def load_language_model(reference: str) -> Any:
    """An encoder–decoder model of transformers in float32: `mini` with random weights, all others with their own.

    Raises:
        WeightsError: there is none, it is of another kind, or weights are missing.
    """
    place = language_model_place(reference)
    if reference == "mini":
        return AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(place))
    with loading(f"language model {reference!r} can't be loaded (an encoder–decoder one is needed)") as trust:
        model, report = AutoModelForSeq2SeqLM.from_pretrained(
            place, dtype=torch.float32, output_loading_info=True, trust_remote_code=trust
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsError(f"language model {reference!r}: {len(missing)} weights are missing, {missing[0]!r} first")
    return model


def count_weights(reference: str) -> int:
    """How many weights a language model has; 0 where its configuration can't be read, which loading it will tell."""
    try:
        with loading(f"language model {reference!r}") as trust, torch.device("meta"):
            config = AutoConfig.from_pretrained(language_model_place(reference), trust_remote_code=trust)
            return AutoModelForSeq2SeqLM.from_config(config, trust_remote_code=trust).num_parameters()
    except WeightsError:
        return 0
