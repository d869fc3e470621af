"""T5: its encoder and the keys and values of cross-attention are computed once an input; on a CPU the weights are packed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import T5ForConditionalGeneration

from close.fast.packing import PackedLinear
from close.fast.search.loop import descent
from close.fast.search.settings import Search
from close.fast.search.weights import once

__all__ = ["T5Decoding"]


class T5Decoding:
    """A search's state: keys and values of self-attention are (B, heads, 1 + time · beams, d), the start token's first.

    Args:
        prompt: (B, L, hidden) input embeddings. mask: (B, L) which of them count.
    """

    def __init__(self, model: T5ForConditionalGeneration, prompt: Tensor, mask: Tensor, search: Search) -> None:
        self.weights = once(model, _PackedT5)
        self.beams, self.start, longest = search.num_beams, search.start, search.max_new_tokens
        self.cross_mask = torch.zeros_like(mask, dtype=prompt.dtype).masked_fill(mask == 0, -torch.inf)[:, None, None]
        hidden = self.weights.encode(prompt, self.cross_mask)
        layers = self.weights.decoder
        cross = [layer.cross.kv(hidden) for layer in layers]
        self.cross_keys, self.cross_values = [key for key, _ in cross], [value for _, value in cross]
        shape = (len(prompt), cross[0][0].shape[1], 1 + (longest - 1) * self.beams, cross[0][0].shape[3])
        self.keys, self.values = ([prompt.new_empty(shape) for _ in layers] for _ in range(2))
        self.bias = self.weights.decoder_bias(longest, longest)[0]  # (heads, T, T) of relative positions
        self.filled = self.time = 0

    def first(self) -> Tensor:
        """(B, V) float32 logits of the first token."""
        start = torch.full((len(self.cross_mask), 1), self.start or 0, device=self.cross_mask.device)
        return self._decode(start, self.bias[None, :, :1, :1])[:, 0]

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """(B, beams, V) float32 logits after the newest tokens."""
        bias = self.bias[:, self.time, None, : self.time + 1]
        past = bias[..., 1:, None].expand(-1, -1, -1, self.beams).flatten(2)
        hidden = past[None].masked_fill(descent(parents)[:, None], -torch.inf)
        start = bias[None, ..., :1].expand(len(tokens), -1, self.beams, -1)
        return self._decode(tokens, torch.cat([start, hidden], -1))

    def keep(self, inputs: Tensor) -> None:
        """Drop the others."""
        for tensors in (self.keys, self.values, self.cross_keys, self.cross_values):
            tensors[:] = [tensor[inputs] for tensor in tensors]
        self.cross_mask = self.cross_mask[inputs]

    def _decode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, n) newest tokens and what is added to their attention → (B, n, V)."""
        new, past = slice(self.filled, self.filled + tokens.shape[1]), slice(0, self.filled + tokens.shape[1])
        hidden = self.weights.embed(tokens)
        for index, layer in enumerate(self.weights.decoder):
            q, k, v = layer.attention.qkv(layer.attention_norm(hidden))
            keys, values = self.keys[index], self.values[index]
            keys[:, :, new], values[:, :, new] = k, v
            hidden = _held(hidden + layer.attention(q, keys[:, :, past], values[:, :, past], mask))
            # the beams of an input are so many queries of one cross-attention
            query = layer.cross.q(layer.cross_norm(hidden))
            said = layer.cross(query, self.cross_keys[index], self.cross_values[index], self.cross_mask)
            hidden = layer.feed(_held(hidden + said))
        self.filled, self.time = past.stop, self.time + 1
        return self.weights.logits(hidden)


class _PackedT5:
    """A T5's weights, packed."""

    def __init__(self, model: T5ForConditionalGeneration) -> None:
        config = model.config
        self.embed, self.scale = model.decoder.embed_tokens, config.d_model**-0.5 if config.scale_decoder_outputs else 1
        self.encoder = [_Layer(block) for block in model.encoder.block]
        self.decoder = [_Layer(block) for block in model.decoder.block]
        self.encoder_norm, self.decoder_norm = (
            _Norm(model.encoder.final_layer_norm),
            _Norm(model.decoder.final_layer_norm),
        )
        self.encoder_bias = model.encoder.block[0].layer[0].SelfAttention.compute_bias
        self.decoder_bias = model.decoder.block[0].layer[0].SelfAttention.compute_bias
        self.head = PackedLinear(model.lm_head.weight)

    def encode(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, L, hidden) → the same."""
        bias = self.encoder_bias(hidden.shape[1], hidden.shape[1]) + mask
        for layer in self.encoder:
            q, k, v = layer.attention.qkv(layer.attention_norm(hidden))
            hidden = layer.feed(_held(hidden + layer.attention(q, k, v, bias)))
        return self.encoder_norm(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, hidden) → (…, V) in float32."""
        return self.head(self.decoder_norm(hidden) * self.scale).float()


class _Norm:
    def __init__(self, norm: Any) -> None:
        self.weight, self.eps = norm.weight.detach(), norm.variance_epsilon

    def __call__(self, hidden: Tensor) -> Tensor:
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.eps)


class _Attention:
    """T5's attention: unscaled, its projections side by side in one product."""

    def __init__(self, attention: Any, *, cross: bool = False) -> None:
        self.heads = attention.n_heads
        parts = [attention.q.weight, attention.k.weight, attention.v.weight]
        if cross:
            self.query = PackedLinear(parts.pop(0))
        self.all = PackedLinear(torch.cat([part.detach() for part in parts]))
        self.out = PackedLinear(attention.o.weight)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        # plain products: for a handful of queries they take a third less time than torch's fused attention
        weights = (query @ key.transpose(-1, -2) + mask).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))

    def q(self, hidden: Tensor) -> Tensor:
        """(B, heads, n, d)."""
        return self.query(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def qkv(self, hidden: Tensor) -> Tensor:
        """(3, B, heads, n, d)."""
        return self.all(hidden).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def kv(self, hidden: Tensor) -> Tensor:
        """(2, B, heads, n, d), laid out for many reads."""
        return self.all(hidden).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).contiguous()


class _Layer:
    def __init__(self, block: Any) -> None:
        first, last = block.layer[0], block.layer[-1]
        self.attention, self.attention_norm = _Attention(first.SelfAttention), _Norm(first.layer_norm)
        if block.is_decoder:
            self.cross = _Attention(block.layer[1].EncDecAttention, cross=True)
            self.cross_norm = _Norm(block.layer[1].layer_norm)
        dense, dtype = last.DenseReluDense, first.SelfAttention.q.weight.dtype
        names = ("wi_0", "wi_1") if hasattr(dense, "wi_0") else ("wi",)
        self.gates = [PackedLinear(getattr(dense, name).weight) for name in names]
        self.act, self.feed_norm = dense.act, _Norm(last.layer_norm)
        self.down = PackedLinear(dense.wo.weight.to(dtype))  # transformers may keep it in float32

    def feed(self, hidden: Tensor) -> Tensor:
        """The feed-forward half, its residual included."""
        normed = self.feed_norm(hidden)
        inner = self.act(self.gates[0](normed))
        return _held(hidden + self.down(inner * self.gates[1](normed) if len(self.gates) == 2 else inner))


def _held(hidden: Tensor) -> Tensor:
    """In float16, what has grown beyond it comes back below its end, as in transformers: T5 is known for it."""
    if hidden.dtype != torch.float16:
        return hidden
    end = torch.finfo(torch.float16).max
    limit = torch.where(hidden.isinf().any(), end - 1000, end)
    return hidden.clamp(-limit, limit)
