"""A language model as others made it, before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, GenerationConfig

from close.errors import WeightsError, reason
from close.io.places import check_directory
from close.io.pretrained import hub_options, load_tokenizer, loading, refuse_bad_weights
from close.mini import LANGUAGE_MODELS
from close.model.language_models.kinds import language_model_kind

__all__ = [
    "check_language_model",
    "check_room",
    "count_weights",
    "language_model_place",
    "load_language_model",
    "skeleton",
]

TOLERANCE = 1e-2
"""Difference of log-probabilities that float32 does not explain: sound models stay within 1e-4."""


def language_model_place(reference: str) -> str:
    """Hub id or directory of a reference; `mini` and `mini-sound` are embedded."""
    return str(LANGUAGE_MODELS.get(reference, reference))


def load_language_model(reference: str) -> Any:
    """A model of transformers in float32, of either kind: `mini` with random weights, all others with their own.

    Raises:
        WeightsError: there is none, it is of neither kind, or weights are missing.
    """
    place = language_model_place(reference)
    settings: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True, **hub_options(place)}
    with _loading(reference) as trust:
        config = _config(reference, trust)
        auto = language_model_kind(config).auto
        if reference in LANGUAGE_MODELS:
            return auto.from_config(config)
        model, report = auto.from_pretrained(place, trust_remote_code=trust, **settings)
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsError(f"language model {reference!r}: {len(missing)} weights are missing, {missing[0]!r} first")
    refuse_bad_weights(model, f"language model {reference!r}")
    with _loading(reference):  # one that is not made for embeddings fails here, wherever it does
        _refuse_readers_of_padding(model.eval(), f"language model {reference!r}")
        _refuse_other_embeddings(model, f"language model {reference!r}")
    model.generation_config = GenerationConfig.from_model_config(model.config)  # as it will be in a loaded run
    return model


@torch.no_grad()
def _refuse_readers_of_padding(model: Any, where: str) -> None:
    """Predict behind a short prompt beside a longer one, and alone.

    Raises:
        WeightsError: that gives different things.
    """
    kind, table = language_model_kind(model.config), model.get_input_embeddings()
    tokens = torch.arange(1, 13).view(2, 6) % table.num_embeddings
    short = tokens[1:, :2]
    mask = (torch.arange(6) < torch.tensor([[6], [2]])).long()
    both = kind.predict(model, *kind.arrange(table(tokens), mask), tokens[:, :3]).logits[1]
    alone = kind.predict(model, table(short), torch.ones_like(short), tokens[1:, :3]).logits[0]
    if difference := _difference(both, alone):
        raise WeightsError(
            f"{where}: {model.config.model_type!r} reads padding: a row's log-probabilities differ by {difference:.2g} alone "
            "and in a batch, and a run would learn that; take another model"
        )


@torch.no_grad()
def _refuse_other_embeddings(model: Any, where: str) -> None:
    """Predict behind the ids of a text, and behind what the token embeddings make of them.

    Raises:
        WeightsError: that gives different things: Pegasus and Marian scale what comes as ids alone.
    """
    kind, table = language_model_kind(model.config), model.get_input_embeddings()
    tokens = (table.num_embeddings // 2 + torch.arange(6)[None]) % table.num_embeddings  # words, and no padding
    asked, said = tokens[:, :3], tokens[:, 3:]
    embedded = kind.predict(model, table(asked), torch.ones_like(asked), None, said).logits[0]
    inputs = {"input_ids": tokens} if kind.pads_left else {"input_ids": asked, "decoder_input_ids": said}
    by_ids = model(**inputs).logits[0, -len(embedded) :]
    if difference := _difference(embedded, by_ids):
        raise WeightsError(
            f"{where}: {model.config.model_type!r} reads embeddings otherwise than the ids they are of: log-probabilities differ "
            f"by {difference:.2g}, and it would misread contexts; take another model"
        )


def _difference(one: Tensor, other: Tensor) -> float:
    """How far log-probabilities lie apart, where float32 does not explain that."""
    difference = (one.log_softmax(-1) - other.log_softmax(-1)).abs().max().item()
    return 0.0 if difference < TOLERANCE else difference


def check_language_model(reference: str) -> None:
    """Find out in a moment whether a language model can be loaded: its configuration, kind, tokenizer and files.

    Raises:
        MissingError: no such directory. WeightsError: it can't be loaded, and why.
    """
    place = language_model_place(reference)
    if reference in LANGUAGE_MODELS:
        return
    check_directory(reference)
    load_tokenizer(place, skeleton(reference).get_input_embeddings().num_embeddings)
    for file in sorted(Path(place).glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):  # reads the header, and compares it with the file's size
                pass
        except (SafetensorError, OSError) as error:
            raise WeightsError(
                f"{file}: the weights are damaged ({reason(error, whole=False)}); copy them again"
            ) from None


def check_room(reference: str, model: Any, prefix: int, answer: int) -> None:
    """Find out whether prefix, context and answer fit a language model's positions.

    Args:
        model: its `skeleton`. prefix, answer: their lengths, in tokens.
    Raises:
        RecipeError: they do not.
    """
    place = language_model_place(reference)
    vocabulary = model.get_input_embeddings().num_embeddings
    kind = language_model_kind(model.config)
    kind.template = kind.template_of(load_tokenizer(place, vocabulary), vocabulary, place) or kind.template
    kind.room(model.config, prefix, answer)


def count_weights(reference: str) -> int:
    """How many weights a language model has; 0 where its configuration can't be read, which loading it will tell."""
    try:
        return int(skeleton(reference).num_parameters())
    except WeightsError:
        return 0


def skeleton(reference: str) -> Any:
    """The model without weights."""
    with _loading(reference) as trust, torch.device("meta"):
        config = _config(reference, trust)
        return language_model_kind(config).auto.from_config(config, trust_remote_code=trust)


def _config(reference: str, trust: bool) -> Any:
    """The model's configuration, of one of the two kinds.

    Raises:
        WeightsError: it is of neither.
    """
    place = language_model_place(reference)
    config = AutoConfig.from_pretrained(place, trust_remote_code=trust, **hub_options(place))
    try:
        language_model_kind(config)
    except WeightsError as error:
        raise WeightsError(f"language model {reference!r}: {error}") from None
    return config


def _loading(reference: str) -> Any:
    hint = "one that writes text is needed: T5, BART, GPT-2, Llama, Qwen …"
    return loading(f"language model {reference!r} can't be loaded ({hint})", language_model_place(reference))
