"""What is searched for, and what is left to transformers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import GenerationConfig, PreTrainedModel

from close.fast.families import FAMILIES
from close.fast.layers import FastLinear

__all__ = ["Search"]


@dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        path: name of the probe that says whether this search may be taken.
        num_beams: 1 is greedy. max_new_tokens: longest output, its end token included.
        length_penalty: sums of log-probabilities are divided by length to this power.
        early_stopping: stop an input at its `num_beams`-th finished text, however good the open ones are.
        start: the first of a decoder's tokens; None where the text continues the prompt.
        ends: tokens that end a text. pad: what follows them.
        texts: how many of those found are wanted of each input, best first; `num_beams` at most.
    """

    path: str
    num_beams: int
    max_new_tokens: int
    length_penalty: float
    early_stopping: bool
    start: int | None
    ends: tuple[int, ...]
    pad: int
    texts: int = 1

    @classmethod
    def of(cls, model: PreTrainedModel, config: GenerationConfig, length: int) -> Search | None:
        """What `model.generate(generation_config=config)` is asked for; None where this package does not cover it.

        Args:
            length: of the prompt, padding included.
        """
        family = FAMILIES.get(type(model).__name__)
        if (
            not family
            or not type(model).__module__.startswith("transformers.")
            or model.training
            or not _is_plain(model)
        ):
            return None
        asked: dict[str, Any] = {**_NEUTRAL, **_given(model.generation_config), **_given(config)}
        if any(value != _NEUTRAL.get(key, False) for key, value in asked.items() if key not in _IGNORED):
            return None
        end: Any = asked.get("eos_token_id", ())
        ends = (end,) if isinstance(end, int) else tuple(end)
        found = cls(
            path=f"{family}_search",
            num_beams=asked["num_beams"],
            max_new_tokens=asked.get("max_new_tokens", 0),
            length_penalty=asked["length_penalty"],
            early_stopping=asked["early_stopping"],
            start=asked.get("decoder_start_token_id", -1) if model.config.is_encoder_decoder else None,
            ends=ends,
            pad=asked.get("pad_token_id", min(ends[:1], default=-1)),
            texts=asked["num_return_sequences"],
        )
        return found if found._is_covered() and found._fits(model.config, length) else None

    def _fits(self, config: Any, length: int) -> bool:
        """Whether every token sees all before it and none behind, at positions that hang on nothing else."""
        if config.is_encoder_decoder:
            return True
        limits = [getattr(config, name, None) or math.inf for name in ("sliding_window", "max_position_embeddings")]
        moving = any(kind in str(getattr(config, "rope_parameters", "")) for kind in ("dynamic", "longrope"))
        both_ways = getattr(config, "use_bidirectional_attention", False)
        return length + self.max_new_tokens <= min(limits) and not moving and not both_ways

    def _is_covered(self) -> bool:
        return (
            len(self.ends) > 0
            and all(isinstance(token, int) for token in (self.start or 0, self.pad, *self.ends))
            and all(isinstance(size, int) and size > 0 for size in (self.num_beams, self.max_new_tokens, self.texts))
            and self.texts <= self.num_beams
            and isinstance(self.length_penalty, (int, float))
            and self.early_stopping in (True, False)
        )


_COVERED = (
    "num_beams",
    "num_return_sequences",
    "max_new_tokens",
    "max_length",
    "length_penalty",
    "early_stopping",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
)
_PASSED = ("transformers_version", "_from_model_config", "is_assistant", "disable_compile")
_SAMPLING = ("temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings that transformers reads only with `do_sample`, which is covered by nothing here."""
_IGNORED = _COVERED + _PASSED + _SAMPLING
_NEUTRAL = {
    "num_beams": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "num_return_sequences": 1,
    "num_beam_groups": 1,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
}
"""Settings as they are where nobody sets them. Any other setting, known today or not, is left to transformers."""


def _given(config: GenerationConfig) -> dict[str, Any]:
    return {key: value for key, value in config.to_dict().items() if value is not None}


def _is_plain(model: nn.Module) -> bool:
    """No layer is wrapped (LoRA's have the same names) or quantised."""
    layers = [type(module) for module in model.modules() if "Linear" in type(module).__name__]
    return (
        bool(layers)
        and set(layers) <= {nn.Linear, FastLinear}
        and all(weight.is_floating_point() and not weight.is_inference() for weight in model.parameters())
    )
