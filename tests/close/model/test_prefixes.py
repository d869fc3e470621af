"""What makes a prefix of a vector, against torch's own layers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM

import close
from close.errors import CloseError, MismatchError, RecipeError, UnknownNameError
from close.model.configuration import CloseConfig
from close.model.modeling import CloseModel
from close.model.prefixes import Prefix, TransformerPrefix, build_prefix, complete_prefix, prefix_tokens
from close.training.train import train

DIM, HIDDEN = 12, 16
SPECS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "length": 3},
    "mlp": {"kind": "mlp", "length": 3},
    "transformer": {"kind": "transformer", "length": 3, "layers": 2, "heads": 4, "source_length": 2},
}


@pytest.fixture(scope="module")
def embeds() -> torch.Tensor:
    return F.normalize(torch.randn(5, DIM, generator=torch.Generator().manual_seed(0)), dim=-1)


@pytest.fixture
def build(zoo):
    def build(kind: str, seed: int = 3) -> CloseModel:
        inner = AutoModelForSeq2SeqLM.from_pretrained(zoo("t5_still_dir"))
        torch.manual_seed(seed)
        config = CloseConfig(embed_dim=DIM, adapter="none", language_model=inner.config, prefix=SPECS[kind])
        return CloseModel(config, inner).eval()

    return build


def stirred(prefix: Prefix) -> Prefix:
    """Every weight moved, so that no norm and no bias is what it starts as."""
    with torch.no_grad():
        for weight in prefix.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return prefix


def plain_linear(prefix: Any, x: torch.Tensor) -> torch.Tensor:
    return (x @ prefix.linear.weight.T + prefix.linear.bias).reshape(len(x), prefix.length, -1)


def plain_mlp(prefix: Any, x: torch.Tensor) -> torch.Tensor:
    both = nn.Sequential(prefix.inner, nn.Tanh(), prefix.outer)
    return both(x).reshape(len(x), prefix.length, -1)


def plain_transformer(prefix: Any, x: torch.Tensor) -> torch.Tensor:
    """By torch's encoder, whose queries, keys and values have a bias."""
    width, heads = prefix.hidden_size, prefix.layers[0].heads
    layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, len(prefix.layers), enable_nested_tensor=False)
    for ours, theirs in zip(prefix.layers, encoder.layers, strict=True):
        theirs.self_attn.in_proj_weight.data.copy_(ours.attention.weight)
        theirs.self_attn.in_proj_bias.data.zero_()
        theirs.self_attn.out_proj.load_state_dict(ours.attended.state_dict())
        theirs.linear1.load_state_dict(ours.inner.state_dict())
        theirs.linear2.load_state_dict(ours.outer.state_dict())
        theirs.norm1.load_state_dict(ours.attention_norm.state_dict())
        theirs.norm2.load_state_dict(ours.inner_norm.state_dict())
    source = prefix.linear(x).reshape(len(x), -1, width)
    return encoder(torch.cat([source, prefix.tokens.repeat(len(x), 1, 1)], dim=1))[:, -prefix.length :]


PLAIN = {"linear": plain_linear, "mlp": plain_mlp, "transformer": plain_transformer}
VARIANTS = [
    {"kind": "linear", "length": 1},
    {"kind": "linear", "length": 5},
    {"kind": "mlp", "length": 1},
    {"kind": "mlp", "length": 4, "width": 7},
    {"kind": "transformer", "length": 1, "layers": 1, "heads": 1},
    {"kind": "transformer", "length": 4, "layers": 3, "heads": 8},
    {"kind": "transformer", "length": 2, "layers": 2, "heads": 2, "source_length": 5},
    {"kind": "transformer"},
]


@pytest.mark.parametrize("spec", VARIANTS, ids=str)
def test_equals_torchs_own_layers(embeds, spec):
    prefix = stirred(build_prefix(spec, DIM, HIDDEN))
    made = prefix(embeds)
    assert made.shape == (5, spec.get("length", 10), HIDDEN)
    assert torch.allclose(made, PLAIN[spec["kind"]](prefix, embeds), atol=1e-5)
    alone = torch.cat([prefix(row[None]) for row in embeds])
    assert torch.allclose(made, alone, atol=1e-5)


def test_sizes_are_clipcaps():
    """For GPT-2 (768 wide) and CLIP ViT-B/32 (512), 10 tokens: as many weights as the authors' mappers have."""
    with torch.device("meta"):
        mlp, transformer = (build_prefix({"kind": kind}, 512, 768) for kind in ("mlp", "transformer"))
    assert sum(p.numel() for p in mlp.parameters()) == 513 * 3840 + 3841 * 7680
    layer = 3 * 768**2 + 769 * 768 + 769 * 1536 + 1537 * 768 + 4 * 768
    assert sum(p.numel() for p in transformer.parameters()) == 513 * 7680 + 10 * 768 + 8 * layer


@pytest.mark.parametrize("kind", SPECS)
def test_starts_as_torch_starts_its_layers(build, kind):
    prefix = build(kind).prefix
    for name, module in prefix.named_modules():
        if isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            assert module.weight.abs().max() <= bound, name
            assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2), name
        if isinstance(module, nn.LayerNorm):
            assert torch.equal(module.weight, torch.ones(HIDDEN))
            assert torch.equal(module.bias, torch.zeros(HIDDEN))
    if isinstance(prefix, TransformerPrefix):
        assert prefix.tokens.std().item() == pytest.approx(1, rel=0.3)
    same, other = build(kind).prefix.state_dict(), build(kind, seed=4).prefix.state_dict()
    assert all(torch.equal(same[key], value) for key, value in prefix.state_dict().items())
    assert not any(torch.equal(other[key], value) for key, value in prefix.state_dict().items() if "norm" not in key)


@pytest.mark.parametrize("kind", SPECS)
def test_is_loaded_as_it_was_saved(build, embeds, tmp_path, kind):
    model = build(kind)
    stirred(model.prefix)
    model.save_pretrained(tmp_path)
    again = CloseModel.from_pretrained(tmp_path)
    assert torch.equal(again.prefix(embeds), model.prefix(embeds))
    assert torch.equal(again.generate(embeds, max_new_tokens=6), model.generate(embeds, max_new_tokens=6))
    half = CloseModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.prefix.parameters()} == {torch.bfloat16}
    assert torch.allclose(half.prefix(embeds.bfloat16()).float(), model.prefix(embeds), atol=0.15)


@pytest.mark.parametrize("kind", SPECS)
def test_gradients_reach_every_weight(build, embeds, kind):
    model = build(kind).train()
    labels = torch.randint(3, 30, (5, 6), generator=torch.Generator().manual_seed(5))
    with torch.autocast("cpu", torch.bfloat16):
        model(embeds, labels=labels).loss.backward()
    assert [name for name, weight in model.prefix.named_parameters() if not (weight.grad != 0).any()] == []


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ({"kind": "mlp", "width": 0}, RecipeError, "width is a whole number ≥ 1"),
        ({"kind": "mlp", "width": True}, RecipeError, "not True"),
        ({"kind": "mlp", "layers": 2}, UnknownNameError, "known: length, scale, width"),
        ({"kind": "transformer", "layers": 0}, RecipeError, "layers is a whole number ≥ 1 and ≤ 48, not 0"),
        ({"kind": "transformer", "layers": 2.0}, RecipeError, "not 2.0"),
        ({"kind": "transformer", "layers": "2"}, RecipeError, "not '2'"),
        ({"kind": "transformer", "heads": -1}, RecipeError, "heads is a whole number ≥ 1 and ≤ 128, not -1"),
        ({"kind": "transformer", "source_length": 2000}, RecipeError, "source_length is a whole number ≥ 1 and ≤ 1024"),
        ({"kind": "transformer", "length": 0}, RecipeError, "length is a whole number ≥ 1"),
        ({"kind": "transformer", "head": 2}, UnknownNameError, "did you mean 'heads'?"),
        ({"kind": "mlp", "scale": 0}, RecipeError, "scale is 'embeddings', or a number > 0"),
        ({"kind": "mlp", "scale": "embedding"}, RecipeError, "not 'embedding'"),
        ({"kind": "mlp", "scale": float("nan")}, RecipeError, "not nan"),
        ({"kind": "mlp", "scale": True}, RecipeError, "not True"),
        ({"kind": "transformr"}, UnknownNameError, "did you mean 'transformer'?"),
    ],
    ids=str,
)
def test_wrong_options(spec, error, words):
    for check in (complete_prefix, lambda spec: build_prefix(spec, DIM, HIDDEN)):
        with pytest.raises(CloseError) as told:
            check(spec)
        assert isinstance(told.value, error)
        assert words in str(told.value)


def test_heads_are_measured_by_the_language_model(recipe, tmp_path, monkeypatch):
    spec = {"kind": "transformer", "length": 2, "layers": 1, "heads": 12}
    assert complete_prefix(spec) == spec  # GPT-2's 768 takes them
    monkeypatch.setattr("close.training.train.cached_table", lambda *_, **__: pytest.fail("texts were embedded first"))
    with pytest.raises(MismatchError, match="12 heads do not divide the language model's width 16; set heads"):
        train(recipe(prefix=spec), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "family"), [*((kind, "t5_dir") for kind in SPECS), ("linear", "gemma_dir")], ids=lambda name: name
)
def test_tokens_start_as_long_as_the_language_models(recipe, zoo, tmp_path, kind, family):
    """As these are looked up, which Gemma scales them at. And the run keeps the number that this came to."""
    still, spec, before = {"max_steps": 1, "learning_rate": 1e-12}, SPECS[kind], {"language_model": str(zoo(family))}
    run = train(recipe(still, prefix=spec | {"scale": "embeddings"}, **before), tmp_path / "run")
    model = CloseModel.from_pretrained(run)
    vectors = F.normalize(torch.randn(400, model.config.embed_dim, generator=torch.Generator().manual_seed(7)), dim=-1)
    tokens, _ = prefix_tokens(model.prefix, vectors)
    table = model.get_input_embeddings()
    own = table(torch.arange(table.num_embeddings)).detach().norm(dim=-1).mean()
    assert float(tokens.detach().norm(dim=-1).mean()) == pytest.approx(float(own), rel=0.1)
    assert torch.equal(tokens, model.prefix(vectors) * model.config.prefix["scale"])
    plain = CloseModel.from_pretrained(train(recipe(still, prefix=spec, **before), tmp_path / "plain"))
    assert plain.prefix.scale == 1
    assert torch.allclose(plain.prefix(vectors), model.prefix(vectors))  # nothing else is drawn otherwise


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_before_a_decoder_only_model(recipe, zoo, tmp_path, embeds, kind):
    changes = {"prefix": SPECS[kind], "language_model": str(zoo("gpt2_dir")), "adapter": "none"}
    captioner = close.load(train(recipe({"epochs": 1}, **changes), tmp_path / "run"), device="cpu")
    vectors = F.pad(embeds, (0, captioner.model.config.embed_dim - DIM))
    together, alone = captioner.embed_to_text(vectors), [captioner.embed_to_text(row) for row in vectors]
    assert [output.text for output in together] == [output.text for output in alone]
    assert [output.score for output in together] == pytest.approx([output.score for output in alone], abs=1e-4)


class Flat(Prefix):
    name = "flat"

    def forward(self, embeds):
        return embeds.repeat(1, self.length)


def test_a_prefix_of_ones_own_that_makes_another_shape_is_named():
    with pytest.raises(MismatchError, match=r"'flat' made \(2, 12\) of 2 items, expected .* with 3 and 4"):
        prefix_tokens(Flat(4, 4, length=3), torch.ones(2, 4))
