"""Greedy and beam search of T5 models: what transformers' `generate` finds, in a loop made for it.

Four things make it fast. The encoder, and the keys and values of cross-attention, are computed once an input rather than once a
beam. The cache is never reordered: the beams of an input attend to all keys of that input, and a mask of who descends from whom
hides the rest. Inputs leave the batch when nothing can improve them any more. On a CPU the weights are packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationConfig, T5ForConditionalGeneration

from close.fast.packing import PackedLinear

__all__ = ["Search", "t5_search"]

NEVER = -1.0e9
"""Score of what can't be chosen, as in transformers."""


@dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        num_beams: 1 is greedy. max_new_tokens: longest output, its end token included.
        length_penalty: sums of log-probabilities are divided by length to this power.
        early_stopping: stop an input at its `num_beams`-th finished text, however good the open ones are.
    """

    num_beams: int
    max_new_tokens: int
    length_penalty: float
    early_stopping: bool
    start: int
    end: int
    pad: int

    @classmethod
    def of(cls, model: nn.Module, config: GenerationConfig) -> Search | None:
        """What `model.generate(generation_config=config)` is asked for; None where this module does not cover it."""
        if type(model) is not T5ForConditionalGeneration or model.training or not _is_plain(model):
            return None
        asked: dict[str, Any] = {**_NEUTRAL, **_given(model.generation_config), **_given(config)}
        if any(value != _NEUTRAL.get(key, False) for key, value in asked.items() if key not in _COVERED + _PASSED):
            return None
        end: Any = asked.get("eos_token_id")
        end = end[0] if isinstance(end, list) and len(end) == 1 else end
        found = cls(
            num_beams=asked["num_beams"],
            max_new_tokens=asked.get("max_new_tokens", 0),
            length_penalty=asked["length_penalty"],
            early_stopping=asked["early_stopping"],
            start=asked.get("decoder_start_token_id", -1),
            end=end,
            pad=asked.get("pad_token_id", end),
        )
        return found if found._is_covered() else None

    def _is_covered(self) -> bool:
        return (
            all(isinstance(token, int) for token in (self.start, self.end, self.pad))
            and all(isinstance(size, int) and size > 0 for size in (self.num_beams, self.max_new_tokens))
            and isinstance(self.length_penalty, (int, float))
            and self.early_stopping in (True, False)
        )


_COVERED = (
    "num_beams",
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
_NEUTRAL = {
    "num_beams": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
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


def t5_search(model: T5ForConditionalGeneration, prompt: Tensor, mask: Tensor, search: Search) -> tuple[Tensor, Tensor]:
    """The best text of each input.

    Args:
        prompt: (B, L, hidden) input embeddings. mask: (B, L) which of them count.
    Returns:
        (B, T) ids from the start token on, and (B,) scores: summed log-probability over length ** length_penalty (greedy: mean).
    """
    t5 = _packed_weights(model)
    state = t5.begin(prompt, mask, search.num_beams, search.max_new_tokens)
    return _greedy(t5, state, search) if search.num_beams == 1 else _beams(t5, state, search)


def _greedy(t5: _PackedT5, state: _State, search: Search) -> tuple[Tensor, Tensor]:
    count, device = state.inputs, state.bias.device
    out = torch.full((count, search.max_new_tokens + 1), search.pad, device=device)
    out[:, 0] = search.start
    total = torch.zeros(count, device=device)
    length = torch.full((count,), search.max_new_tokens, device=device)
    rows, tokens = torch.arange(count, device=device), out[:, :1]
    for step in range(search.max_new_tokens):
        best, chosen = _log_probabilities(t5.step(state, tokens, None), 1)
        out[rows, step + 1] = chosen[:, 0, 0]
        total[rows] += best[:, 0, 0]
        ended = chosen[:, 0, 0] == search.end
        length[rows[ended]] = step + 1
        tokens = chosen[:, 0]
        if ended.any():
            rows, tokens = rows[~ended], tokens[~ended]
            state.keep(~ended)
        if not len(rows):
            break
    return out[:, : int(length.max()) + 1], total / length


def _beams(t5: _PackedT5, state: _State, search: Search) -> tuple[Tensor, Tensor]:
    """transformers' beam search (generation/utils.py, version 5), step for step."""
    count, beams, longest, device = state.inputs, search.num_beams, search.max_new_tokens, state.bias.device
    found = torch.full((count, longest + 1), search.pad or search.end, device=device)
    found_score, found_length = torch.zeros(count, device=device), torch.zeros(count, dtype=torch.long, device=device)
    rows, slots = torch.arange(count, device=device), torch.arange(beams, device=device)
    ids = found[:, None].repeat(1, beams, 1)
    ids[:, :, 0] = search.start
    score = torch.full((count, beams), NEVER, device=device)
    score[:, 0] = 0
    done_ids, done_score = ids.clone(), torch.full_like(score, NEVER)
    done_length, done = torch.zeros_like(score, dtype=torch.long), torch.zeros_like(score, dtype=torch.bool)
    parents = torch.zeros(count, beams, longest, dtype=torch.long, device=device)
    for step in range(longest):
        length = step + 1
        parents[:, :, step] = slots
        best, tokens = _log_probabilities(t5.step(state, ids[:, :, step], parents[:, :, :length]), 2 * beams)
        best, place = (best + score[:, :, None]).flatten(1).topk(2 * beams)
        beam, token = place // tokens.shape[2], tokens.flatten(1).gather(1, place)
        grown = _take(ids, beam)
        grown[:, :, length] = token
        ends = (token == search.end) if length < longest else torch.ones_like(token, dtype=torch.bool)

        going = best + ends * NEVER
        following = going.topk(beams).indices
        ids, score = _take(grown, following), going.gather(1, following)
        parents = _take(parents, beam.gather(1, following))

        ended = ends & (torch.arange(2 * beams, device=device) < beams)
        full = done.all(1, keepdim=True) & search.early_stopping
        final = best / length**search.length_penalty + full * NEVER + ~ended * NEVER
        done_score, order = torch.cat([done_score, final], 1).topk(beams)
        done_ids = _take(torch.cat([done_ids, grown], 1), order)
        done_length = torch.cat([done_length, torch.full_like(token, length)], 1).gather(1, order)
        done = torch.cat([done, ended], 1).gather(1, order)

        # an input is closed when its best open beam, at today's length, is below every finished one
        worst = torch.where(done, done_score.min(1, keepdim=True).values, NEVER)
        closed = ~(score[:, :1] / length**search.length_penalty > worst).any(1)
        closed |= done.all(1) & search.early_stopping
        if length == longest:
            closed[:] = True
        if closed.any():
            shut, still = rows[closed], ~closed
            found[shut], found_score[shut] = done_ids[closed, 0], done_score[closed, 0]
            found_length[shut] = done_length[closed, 0]
            if closed.all():
                break
            state.keep(still)
            rows, ids, score, parents = rows[still], ids[still], score[still], parents[still]
            done_ids, done_score, done_length, done = (x[still] for x in (done_ids, done_score, done_length, done))
    return found[:, : int(found_length.max()) + 1], found_score


def _log_probabilities(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best tokens of (B, beams, V) logits: (B, beams, count) log-probabilities and ids."""
    best, tokens = logits.log_softmax(-1).topk(min(count, logits.shape[-1]))
    return best, tokens


def _take(values: Tensor, order: Tensor) -> Tensor:
    """(B, n, T) rows in the (B, m) order."""
    return values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))


@dataclass
class _State:
    """What a search has computed so far; keys and values are (B, heads, time · beams, d), those of one time side by side."""

    beams: int
    bias: Tensor  # (heads, T, T) of relative positions
    keys: list[Tensor]
    values: list[Tensor]
    cross_keys: list[Tensor]
    cross_values: list[Tensor]
    cross_mask: Tensor  # (B, 1, 1, L), added
    step: int = 0

    @property
    def inputs(self) -> int:
        return len(self.cross_mask)

    def keep(self, inputs: Tensor) -> None:
        """Drop the others."""
        for tensors in (self.keys, self.values, self.cross_keys, self.cross_values):
            tensors[:] = [tensor[inputs] for tensor in tensors]
        self.cross_mask = self.cross_mask[inputs]


class _PackedT5:
    """A T5's weights, packed, and the two passes that decoding needs."""

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

    def begin(self, prompt: Tensor, mask: Tensor, beams: int, longest: int) -> _State:
        """Run the encoder and compute what every step reads."""
        hidden, hidden_mask = prompt, torch.zeros_like(mask, dtype=prompt.dtype).masked_fill(mask == 0, -torch.inf)
        hidden_mask = hidden_mask[:, None, None]
        bias = self.encoder_bias(mask.shape[1], mask.shape[1]) + hidden_mask
        for layer in self.encoder:
            q, k, v = layer.attention.qkv(layer.attention_norm(hidden))
            hidden = hidden + layer.attention(q, k, v, bias)
            hidden = layer.feed(hidden)
        hidden = self.encoder_norm(hidden)
        cross = [layer.cross.kv(hidden) for layer in self.decoder]
        shape = (len(prompt), cross[0][0].shape[1], longest * beams, cross[0][0].shape[3])
        return _State(
            beams,
            self.decoder_bias(longest, longest)[0],
            keys=[prompt.new_empty(shape) for _ in self.decoder],
            values=[prompt.new_empty(shape) for _ in self.decoder],
            cross_keys=[key for key, _ in cross],
            cross_values=[value for _, value in cross],
            cross_mask=hidden_mask,
        )

    def step(self, state: _State, tokens: Tensor, parents: Tensor | None) -> Tensor:
        """(B, beams, V) float32 logits after the (B, beams) newest tokens.

        Args:
            parents: (B, beams, t) which beam of each time a beam descends from; None where there is one beam.
        """
        now, beams = state.step, state.beams
        new, past = slice(now * beams, (now + 1) * beams), slice(0, (now + 1) * beams)
        mask = state.bias[None, :, None, now, : now + 1, None].expand(-1, -1, beams, -1, beams)
        if parents is not None:
            others = parents[..., None] != torch.arange(beams, device=parents.device)
            mask = mask.masked_fill(others[:, None], -torch.inf)
        mask = mask.flatten(3)
        hidden = self.embed(tokens)
        for index, layer in enumerate(self.decoder):
            q, k, v = layer.attention.qkv(layer.attention_norm(hidden))
            keys, values = state.keys[index], state.values[index]
            keys[:, :, new], values[:, :, new] = k, v
            hidden = hidden + layer.attention(q, keys[:, :, past], values[:, :, past], mask)
            # the beams of an input are so many queries of one cross-attention
            query = layer.cross.q(layer.cross_norm(hidden))
            hidden = hidden + layer.cross(query, state.cross_keys[index], state.cross_values[index], state.cross_mask)
            hidden = layer.feed(hidden)
        state.step += 1
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
        return hidden + self.down(inner * self.gates[1](normed) if len(self.gates) == 2 else inner)


_PACKED: WeakKeyDictionary[nn.Module, tuple[Any, _PackedT5]] = WeakKeyDictionary()


def _packed_weights(model: T5ForConditionalGeneration) -> _PackedT5:
    """The model's packed weights; made anew where a weight has changed since."""
    version = tuple((weight.data_ptr(), weight.dtype, weight._version) for weight in model.parameters())
    if model not in _PACKED or _PACKED[model][0] != version:
        _PACKED[model] = (version, _PackedT5(model))
    return _PACKED[model][1]


def _is_plain(model: nn.Module) -> bool:
    """No layer is wrapped (LoRA) or quantised."""
    kinds = {type(module).__name__ for module in model.modules() if "Linear" in type(module).__name__}
    return kinds == {"Linear"} and all(
        weight.is_floating_point() and not weight.is_inference() for weight in model.parameters()
    )
