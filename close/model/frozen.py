"""Frozen weights that autocast converts at every use, held as it converts them: a third of the memory, the same numbers."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

__all__ = ["hold_in_bf16"]

_READ_BY_LAYERS = frozenset(
    ("t5", "mt5", "bart", "gpt2", "opt", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi")
)
"""Architectures whose linear layers alone read their weights, always under autocast: others may compute a part in fp32."""


def hold_in_bf16(language_model: nn.Module) -> None:
    """Convert a language model's frozen weights that autocast in bf16 would: those of linear layers, and of nothing else.

    Autocast keeps the copy that it makes of such a weight until the backward pass, beside the weight. What is trained stays as it
    is, and so do embeddings, output layers tied to them, norms, and a language model of another architecture. The model is to be
    asked under autocast from then on.

    Args:
        language_model: of transformers, or of an architecture that nothing is known of here. Is changed.
    """
    own = type(language_model).__module__.startswith("transformers.")
    if not own or getattr(language_model.config, "model_type", None) not in _READ_BY_LAYERS:
        return
    linear, others = dict[int, nn.Parameter](), set[int]()
    for layer in language_model.modules():
        for weight in layer.parameters(recurse=False):
            if isinstance(layer, (nn.Linear, Conv1D)) and not weight.requires_grad and weight.dtype == torch.float32:
                linear[id(weight)] = weight
            else:
                others.add(id(weight))
    for key in linear.keys() - others:
        linear[key].data = linear[key].data.to(torch.bfloat16)  # in place: layers that share it go on sharing it
