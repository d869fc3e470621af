"""Decoder-only models: transformers' own layers, packed, over keys and values that all beams of an input share.

The beams of an input are so many queries of one row: positions and a mask say which token each of them follows. So the prompt is
read, and its keys and values are kept, once an input, and any architecture that takes positions and a whole mask is served.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.cache_utils import DynamicLayer

from close.fast.layers import FastGelu, plain_layers
from close.fast.packing import pack
from close.fast.search.loop import descent
from close.fast.search.settings import Search
from close.fast.search.weights import once

__all__ = ["CausalDecoding"]


class CausalDecoding:
    """A search's state: keys and values are (B, heads, L + time · beams, d), those of the prompt first.

    Args:
        prompt: (B, L, hidden) input embeddings. mask: (B, L) which of them count.
    """

    def __init__(self, model: PreTrainedModel, prompt: Tensor, mask: Tensor, search: Search) -> None:
        self.model = once(model, _packed_copy)
        self.prompt, self.mask, self.beams = prompt, mask.bool(), search.num_beams
        self.position = self.mask.sum(1, keepdim=True)  # (B, 1) of the newest token
        most = prompt.shape[1] + (search.max_new_tokens - 1) * self.beams
        self.cache = [_Layer(most) for _ in range(model.config.num_hidden_layers)]

    def first(self) -> Tensor:
        """(B, V) float32 logits of the first token."""
        length, device = self.mask.shape[1], self.mask.device
        seen = self.mask[:, None] & torch.ones(length, length, dtype=torch.bool, device=device).tril()
        seen |= torch.eye(length, dtype=torch.bool, device=device)  # padding sees itself: a row of nothing is NaN
        positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        return self._decode(~seen, positions, inputs_embeds=self.prompt)[:, -1]

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """(B, beams, V) float32 logits after the newest tokens."""
        prompt = ~self.mask[:, None].expand(-1, self.beams, -1)
        logits = self._decode(
            torch.cat([prompt, descent(parents)], -1), self.position.expand_as(tokens), input_ids=tokens
        )
        self.position = self.position + 1
        return logits

    def keep(self, inputs: Tensor) -> None:
        """Drop the others."""
        self.mask, self.position = self.mask[inputs], self.position[inputs]
        for layer in self.cache:
            layer.batch_select_indices(inputs)

    def _decode(self, hidden: Tensor, positions: Tensor, **inputs: Tensor) -> Tensor:
        """(B, n, V) after n inputs, of which (B, n, m) keys are hidden; of the prompt, after its last."""
        mask = torch.zeros_like(hidden, dtype=self.prompt.dtype).masked_fill(hidden, -torch.inf)[:, None]
        keep = self.beams if "input_ids" in inputs else 1
        output = self.model(
            **inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=Cache(layers=self.cache),
            use_cache=True,
            logits_to_keep=keep,
        )
        return output.logits.float()


class _Layer(DynamicLayer):
    """Keys and values in place: room for `most` of them is taken once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.length = most, 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take the room."""
        self.keys, self.values = (
            states.new_empty((*states.shape[:2], self.most, states.shape[3])) for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """All keys and values, these included."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[:, :, start : self.length], self.values[:, :, start : self.length] = key_states, value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        """How many there are."""
        return self.length


def _packed_copy(model: PreTrainedModel) -> PreTrainedModel:
    """The model with packed layers; what is not packed is the model's own."""
    own = {id(weight): weight for weight in (*model.parameters(), *model.buffers())}
    made = copy.deepcopy(model, own)
    made.set_attn_implementation(
        "eager"
    )  # plain products: for a handful of queries they take less time than fused attention
    plain_layers(made)  # where it is in training
    for module in made.modules():
        if type(module) is NewGELUActivation:
            module.__class__ = FastGelu
    pack(made)
    return made
