"""The search of T5 against transformers' generate, and packed layers against plain ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration

from close.errors import RecipeError
from close.fast.packing import PackedLinear, can_pack, pack
from close.fast.precision import LARGE, pick_dtype, pick_precision
from close.fast.search import Search, find_texts

INPUTS, HIDDEN = 200, 32
CPU = torch.device("cpu")


def model(gated: bool = False, ends: float = 0.0) -> T5ForConditionalGeneration:
    """A T5 with random weights; with `ends`, its end token comes out as often as others."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=90,
        d_model=HIDDEN,
        d_ff=64,
        d_kv=8,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
    )
    made = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        made.lm_head.weight = nn.Parameter(1.5 * torch.randn_like(made.lm_head.weight))
        for block in made.decoder.block:  # else every input gets much the same text
            block.layer[1].EncDecAttention.o.weight *= 8
        made.lm_head.weight[1] += ends * made.lm_head.weight[2:].mean(0) + ends * torch.randn(HIDDEN)
    return made


@pytest.fixture(scope="module")
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 8, (INPUTS, 1), generator=draw)
    return torch.randn(INPUTS, 7, HIDDEN, generator=draw), (torch.arange(7) < lengths).long()


def both(made: Any, prompts: Any, **settings: Any) -> tuple[Any, Any]:
    """What transformers finds and what we find, as lists of ids up to the end token."""
    prompt, mask = prompts
    search = Search.of(made, GenerationConfig(**settings), prompt.shape[1])
    assert search is not None
    ids, scores = find_texts(made, prompt, mask, search)
    output = made.generate(
        inputs_embeds=prompt, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **settings
    )
    if settings.get("num_beams", 1) > 1:
        assert torch.allclose(scores, output.sequences_scores, atol=1e-4)
    return cut(output.sequences), cut(ids)


def cut(ids: torch.Tensor) -> list[list[int]]:
    rows = ids[:, 1:].tolist()
    return [row[: row.index(1) + 1] if 1 in row else row for row in rows]


@torch.no_grad()
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 1},
        {"num_beams": 5},
        {"num_beams": 5, "early_stopping": True},
        {"num_beams": 3, "length_penalty": 0.0},
        {"num_beams": 3, "length_penalty": 2.0},
    ],
    ids=str,
)
def test_the_same_text_for_200_inputs(prompts, gated, settings):
    made = model(gated, ends=2.0)
    wanted, found = both(made, prompts, max_new_tokens=12, **settings)
    assert found == wanted
    assert len({tuple(row) for row in wanted}) > 50
    assert {row[-1] == 1 for row in wanted} == {True, False}, "some end early, some at the limit"


def test_changed_weights_are_seen(prompts):
    made = model()
    before = both(made, prompts, num_beams=1, max_new_tokens=6)
    with torch.no_grad():
        made.decoder.block[0].layer[2].DenseReluDense.wo.weight *= -3
    after = both(made, prompts, num_beams=1, max_new_tokens=6)
    assert before[0] == before[1] != after[1] == after[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True},
        {"min_new_tokens": 3},
        {"repetition_penalty": 1.2},
        {"num_beams": 4, "num_return_sequences": 2},
        {"no_repeat_ngram_size": 2},
        {"early_stopping": "never", "num_beams": 2},
        {"output_scores": True},
        {"forced_eos_token_id": 1},
        {"eos_token_id": [1, 2]},
        {"suppress_tokens": [5]},
    ],
    ids=str,
)
def test_what_is_not_covered_is_left_to_transformers(settings):
    made = model()
    assert Search.of(made, GenerationConfig(max_new_tokens=5, **settings), 7) is None


def test_training_mode_is_left_to_transformers():
    made = model().train()
    assert Search.of(made, GenerationConfig(max_new_tokens=5), 7) is None


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (3, 5, 24), (2, 3, 4, 24)])
def test_packed_layers_compute_the_same(dtype, close, bias, shape):
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias).to(dtype).requires_grad_(False)
    x = torch.randn(shape).to(dtype)
    with torch.inference_mode():
        assert torch.allclose(PackedLinear(layer.weight, layer.bias)(x).float(), layer(x).float(), atol=close)


def test_pack_replaces_plain_layers_only():
    quantised = nn.Linear(4, 4).double()
    made = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), quantised)
    pack(made)
    assert isinstance(made[0], PackedLinear) == can_pack(torch.zeros(1))
    assert made[2] is quantised


def test_auto_is_bf16_for_large_models_where_the_hardware_has_it(monkeypatch):
    monkeypatch.setattr("close.fast.precision.has_bf16", lambda device: True)
    assert pick_precision("auto", CPU, LARGE) == "bf16"
    assert pick_precision("auto", CPU, LARGE - 1) == "fp32"
    assert pick_precision("fp32", CPU, LARGE) == "fp32"
    monkeypatch.setattr("close.fast.precision.has_bf16", lambda device: False)
    assert pick_precision("auto", CPU, LARGE) == "fp32"
    with pytest.raises(RecipeError, match="one of auto"):
        pick_dtype("int8")
