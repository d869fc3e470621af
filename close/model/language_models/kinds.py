"""Which kind a language model is of, by its configuration."""

from __future__ import annotations

import inspect
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    PretrainedConfig,
)

from close.errors import WeightsError
from close.model.language_models.base import LanguageModelKind, Template
from close.model.language_models.decoder_only import DecoderOnly
from close.model.language_models.encoder_decoder import EncoderDecoder

__all__ = ["language_model_kind"]


def language_model_kind(config: PretrainedConfig, template: Any = None) -> LanguageModelKind:
    """The kind that a language model's configuration is of.

    Args:
        template: what `CloseConfig.template` holds; None where there is none.
    Raises:
        WeightsError: it is of neither kind, or wants more than embeddings of its input.
        RecipeError: the template is none.
    """
    kind = _kind(config)
    return kind(None if template is None else Template.of(template, config.get_text_config().vocab_size))


def _kind(config: PretrainedConfig) -> type[LanguageModelKind]:
    own = getattr(config, "auto_map", None) or {}  # of models that bring code
    if config.is_encoder_decoder:
        if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING or EncoderDecoder.auto.__name__ in own:
            return EncoderDecoder
    elif _is_masked(config):
        pass
    elif type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or DecoderOnly.auto.__name__ in own:
        if any(getattr(part, "hidden_size_per_layer_input", None) for part in (config, config.get_text_config())):
            raise WeightsError(
                f"{config.model_type!r} reads token ids in each of its layers, and a prefix has none; "
                "take another model (GPT-2, OPT, Llama, Qwen, Gemma 1 to 3, Phi, Mistral)"
            )
        text = config.get_text_config()
        known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        if known and text is not config and MODEL_FOR_CAUSAL_LM_MAPPING[type(config)].config_class is not type(text):
            raise WeightsError(
                f"{config.model_type!r} has towers for pictures or sound of its own, which are not wanted here; "
                f"take a text-only model ({text.model_type!r} is one)"
            )
        if known and not _continues(config):
            raise WeightsError(
                f"{config.model_type!r} can't continue a text from embeddings, by keys and values that it keeps; "
                "take another model (GPT-2, OPT, Llama, Qwen, Gemma 1 to 3, Phi, Mistral)"
            )
        return DecoderOnly
    raise WeightsError(
        f"{config.model_type!r} is no language model that writes text: an encoder–decoder (T5, BART) or a decoder-only one "
        "(GPT-2, OPT, Llama, Qwen, Gemma, Phi, Mistral) is needed"
    )


def _continues(config: PretrainedConfig) -> bool:
    """Whether a model of this configuration writes on from embeddings, each token seeing those before it alone."""
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    reads = inspect.signature(model.forward).parameters
    begins = inspect.signature(model.prepare_inputs_for_generation).parameters
    return (
        {"inputs_embeds", "past_key_values"} <= reads.keys()
        and "inputs_embeds" in begins
        and getattr(config, "is_decoder", True)
    )


def _is_masked(config: PretrainedConfig) -> bool:
    """Whether each token sees those behind it (BERT): transformers would have it write all the same."""
    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
