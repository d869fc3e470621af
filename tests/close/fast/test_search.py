"""The search against transformers' generate, and packed layers against plain ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

from close.errors import RecipeError
from close.fast.families import FAMILIES
from close.fast.layers import fast_layers
from close.fast.packing import PackedLinear, can_pack, pack
from close.fast.precision import LARGE, pick_dtype, pick_precision
from close.fast.search import Search, find_texts, forget, planned
from close.fast.search.weights import _MADE

INPUTS, HIDDEN = 200, 32
CPU = torch.device("cpu")
TOKENS = {"vocab_size": 90, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 0}
SIZES = {
    "hidden_size": HIDDEN,
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff"), 64),
    **dict.fromkeys(("num_hidden_layers", "num_decoder_layers"), 2),
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    **dict.fromkeys(("head_dim", "d_kv"), 8),
    "word_embed_proj_dim": HIDDEN,
    "max_position_embeddings": 64,
}
CAUSAL = [family for family in FAMILIES.values() if family != "t5"]


def model(family: str = "t5", **settings: Any) -> Any:
    """Random weights, so large that each prompt gets a text of its own, and its end token comes out as often as others."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **TOKENS, **settings)
    made = (AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM).from_config(config).eval()
    with torch.no_grad():
        for weight in made.parameters() if family != "t5" else ():
            if weight.ndim == 2:
                weight.normal_(std=1.5 * weight.shape[1] ** -0.5)
        head = made.get_output_embeddings()
        head.weight = nn.Parameter(1.5 * torch.randn_like(head.weight))
        for block in made.decoder.block if family == "t5" else ():
            block.layer[1].EncDecAttention.o.weight *= 8
        head.weight[1] += 3 * torch.randn(HIDDEN)
    return made


@pytest.fixture(scope="module")
def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    """Padded on the left, to uneven lengths."""
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 8, (INPUTS, 1), generator=draw)
    return torch.randn(INPUTS, 7, HIDDEN, generator=draw), (torch.arange(7) >= 7 - lengths).long()


@torch.no_grad()
def both(made: Any, prompts: Any, **settings: Any) -> tuple[Any, Any]:
    """What transformers finds and what we find, as lists of ids up to the end token."""
    prompt, mask = prompts
    search = Search.of(made, GenerationConfig(**settings), prompt.shape[1])
    assert search is not None
    ids, scores = find_texts(made, prompt, mask, search)
    output = made.generate(
        inputs_embeds=prompt, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **settings
    )
    skip = int(made.config.is_encoder_decoder)  # the start token
    wanted, found = (cut(rows[:, skip:], settings.get("eos_token_id", [1])) for rows in (output.sequences, ids))
    if settings.get("num_beams", 1) > 1:
        assert torch.allclose(scores, output.sequences_scores, atol=1e-4)
    else:
        steps = made.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
        means = [step[: len(row)].mean() for step, row in zip(steps, wanted, strict=True)]
        assert torch.allclose(scores, torch.stack(means), atol=1e-4)
    return wanted, found


def cut(ids: torch.Tensor, ends: Sequence[int] = (1,)) -> list[list[int]]:
    """Rows up to their end token."""
    return [row[: next((i for i, token in enumerate(row) if token in ends), len(row)) + 1] for row in ids.tolist()]


SETTINGS = [
    {"num_beams": 1},
    {"num_beams": 5},
    {"num_beams": 5, "early_stopping": True},
    {"num_beams": 3, "length_penalty": 0.0},
    {"num_beams": 3, "length_penalty": 1.4},
    {"num_beams": 2, "eos_token_id": [1, 7, 8]},
    {"eos_token_id": [7, 1], "temperature": 0.6, "top_p": 0.9},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("t5", {"feed_forward_proj": "relu"}),
        ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
        ("gpt2", {}),
    ],
    ids=str,
)
def test_the_same_text_for_200_inputs(prompts, family, kind, settings):
    wanted, found = both(model(family, **kind), prompts, max_new_tokens=12, **settings)
    assert found == wanted
    assert len({tuple(row) for row in wanted}) > 50
    assert {len(row) < 12 for row in wanted} == {True, False}, "some end early, some at the limit"


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("family", CAUSAL)
def test_the_same_text_by_every_architecture(prompts, family, num_beams):
    prompt, mask = prompts
    wanted, found = both(model(family), (prompt[:60], mask[:60]), max_new_tokens=8, num_beams=num_beams)
    assert found == wanted
    assert len({tuple(row) for row in wanted}) > 30


def test_a_prompt_is_read_alike_alone_and_in_a_batch(prompts):
    prompt, mask = prompts
    made, settings = model("gpt2"), {"num_beams": 3, "max_new_tokens": 6}
    search = Search.of(made, GenerationConfig(**settings), 7)
    assert search is not None
    together = cut(find_texts(made, prompt[:20], mask[:20], search)[0])
    for row, found in enumerate(together):
        own = prompt[row : row + 1, mask[row].bool()]
        assert cut(find_texts(made, own, torch.ones(1, own.shape[1]).long(), search)[0]) == [found]


@pytest.mark.parametrize("family", ["t5", "gpt2"])
@pytest.mark.parametrize(
    "settings", [{"num_return_sequences": 3}, {"early_stopping": True, "length_penalty": 0.0}], ids=str
)
def test_several_texts_of_an_input(prompts, family, settings):
    """The same ones, the best first; those whose scores differ by float error in any order."""
    made, settings = model(family), {"num_beams": 3, "num_return_sequences": 3, **settings}
    wanted, found = both(made, [part[:60] for part in prompts], max_new_tokens=12, **settings)
    assert len(found) == 180
    for start in range(0, 180, 3):
        assert sorted(found[start : start + 3]) == sorted(wanted[start : start + 3])
    one, best = both(made, [part[:60] for part in prompts], max_new_tokens=12, **settings | {"num_return_sequences": 1})
    assert (best, one) == (found[::3], wanted[::3])


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_changed_weights_are_seen(prompts, family):
    made = model(family)
    before = both(made, prompts, num_beams=1, max_new_tokens=6)
    with torch.no_grad():
        if family == "t5":
            made.decoder.block[0].layer[2].DenseReluDense.wo.weight *= -3
        else:
            made.transformer.h[0].mlp.c_proj.weight *= -3
    after = both(made, prompts, num_beams=1, max_new_tokens=6)
    assert before[0] == before[1] != after[1] == after[0]


@torch.no_grad()
@pytest.mark.parametrize(("part", "weight"), [("encoder", "wo"), ("decoder", "wo"), ("encoder", "o"), ("decoder", "o")])
def test_products_beyond_float16_are_held_as_in_transformers(prompts, part, weight):
    made, settings = model("t5"), {"num_beams": 2, "max_new_tokens": 6}
    layer = getattr(made, part).block[0].layer[-1 if weight == "wo" else 0]
    (layer.DenseReluDense.wo if weight == "wo" else layer.SelfAttention.o).weight *= 1e5
    made.half()
    prompt, mask = prompts[0][:20].half(), prompts[1][:20]
    search = Search.of(made, GenerationConfig(**settings), prompt.shape[1])
    assert search is not None
    ids, scores = find_texts(made, prompt, mask, search)
    said = {"return_dict_in_generate": True, "output_scores": True}
    output = made.generate(inputs_embeds=prompt, attention_mask=mask, **said, **settings)
    assert torch.allclose(scores, output.sequences_scores.float(), atol=2e-2)
    alike = [a == b for a, b in zip(cut(ids), cut(output.sequences), strict=True)]
    assert sum(alike) >= 18, "but for rounding"


@pytest.mark.parametrize("family", ["t5", "gpt2"])
@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": True},
        {"min_new_tokens": 3},
        {"repetition_penalty": 1.2},
        {"no_repeat_ngram_size": 2},
        {"early_stopping": "never", "num_beams": 2},
        {"output_scores": True},
        {"forced_eos_token_id": 1},
        {"suppress_tokens": [5]},
        {"a_setting_of_tomorrow": 1},
    ],
    ids=str,
)
def test_what_is_not_covered_is_left_to_transformers(family, settings):
    made = model(family)
    assert Search.of(made, GenerationConfig(max_new_tokens=5), 7) is not None
    assert Search.of(made, GenerationConfig(max_new_tokens=5, **settings), 7) is None


@pytest.mark.parametrize(
    ("family", "kind", "length"),
    [
        ("mistral", {"sliding_window": 11}, 7),
        ("gemma3_text", {"sliding_window": 11}, 7),
        ("gpt2", {}, 60),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, 7),
        ("gpt_neox", {}, 7),
    ],
)
def test_what_a_model_can_not_be_asked_is_left_to_transformers(family, kind, length):
    assert Search.of(model(family, **kind), GenerationConfig(max_new_tokens=5), length) is None


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_a_model_in_training_says_the_same_in_between(prompts, family):
    prompt, mask = prompts
    made, settings = model(family), {"num_beams": 2, "max_new_tokens": 6}
    wanted, found = both(made, (prompt[:40], mask[:40]), **settings)
    with fast_layers(made):
        assert both(made, (prompt[:40], mask[:40]), **settings)[1] == wanted == found
        assert planned(made, GenerationConfig(**settings), 7) is not None
        with torch.autocast("cpu", torch.bfloat16):
            assert planned(made, GenerationConfig(**settings), 7) is None


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_autocast_of_an_accelerator_is_left_to_transformers(family):
    """Without one: tensors that only say that they are on it."""
    settings = GenerationConfig(num_beams=2, max_new_tokens=6)
    assert planned(model(family), settings, 7) is not None  # what asks the processor has been asked
    with FakeTensorMode(), torch.device("cuda"):
        made = (AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM).from_config(model(family).config)
    assert planned(made.eval(), settings, 7) is not None
    torch.set_autocast_enabled("cuda", True)
    try:
        assert planned(made, settings, 7) is None
    finally:
        torch.set_autocast_enabled("cuda", False)


def test_what_is_packed_of_weights_in_training_can_be_let_go(prompts):
    prompt, mask = prompts
    made = model("t5")
    both(made, (prompt[:2], mask[:2]), max_new_tokens=3)
    assert made in _MADE
    forget(made)
    assert made not in _MADE
    forget(made)


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_training_mode_is_left_to_transformers(family):
    assert Search.of(model(family).train(), GenerationConfig(max_new_tokens=5), 7) is None


@pytest.mark.parametrize(("family", "layer"), [("t5", "q"), ("gpt2", "c_fc"), ("llama", "q_proj")])
def test_lora_is_left_to_transformers(family, layer):
    made = model(family)
    get_peft_model(made, LoraConfig(target_modules=[layer], fan_in_fan_out=family == "gpt2"))
    assert Search.of(made.eval(), GenerationConfig(max_new_tokens=5), 7) is None


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
