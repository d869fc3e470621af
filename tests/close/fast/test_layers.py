"""Training's layers: torch's results, sooner."""

import copy
import time

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from close.fast.layers import FastConv1D, FastDropout, FastGelu, FastLinear, fast_layers
from close.fast.packing import can_pack

pytestmark = pytest.mark.skipif(not can_pack(torch.ones(2, 2)), reason="torch has no oneDNN here")


def results(layer, x):
    x = x.clone().requires_grad_()
    y = layer(x)
    layer.zero_grad()
    (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    return [y, x.grad, *(weight.grad for weight in layer.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (1, 7), (3, 5, 7), (2, 3, 4, 7), (0, 7)])
def test_the_same_numbers(shape, bias):
    torch.manual_seed(0)
    plain, fast = nn.Linear(7, 11, bias=bias), FastLinear(7, 11, bias=bias)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(shape)
    for ours, theirs in zip(results(fast, x), results(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(7,), (1, 7), (3, 5, 7), (0, 7)])
def test_the_same_numbers_of_layers_that_are_laid_out_the_other_way(shape):
    torch.manual_seed(0)
    plain, fast = Conv1D(11, 7), FastConv1D(11, 7)
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(shape)
    for ours, theirs in zip(results(fast, x), results(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_gelu_in_one_pass():
    for ours, theirs in zip(
        *(results(layer, torch.linspace(-20, 20, 999)) for layer in (FastGelu(), NewGELUActivation())), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpt2_learns_the_same(monkeypatch, precision):
    monkeypatch.setattr("close.fast.layers.is_on", lambda path: True)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=30, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    )
    ids = torch.randint(0, 30, (3, 9))

    def gradients():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            model(ids, labels=ids).loss.backward()
        return [weight.grad for weight in model.parameters()]

    plain = gradients()
    with fast_layers(model):
        assert type(model.transformer.h[0].mlp.c_fc) is FastConv1D
        assert type(model.transformer.h[0].mlp.act) is FastGelu
        fast = gradients()
    assert type(model.transformer.h[0].mlp.c_fc) is Conv1D
    assert type(model.transformer.h[0].mlp.act) is NewGELUActivation
    close = 1e-5 if precision == "fp32" else 3e-2
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=close, rtol=close)


def test_frozen_weights_and_inputs_without_gradient():
    layer = FastLinear(4, 3)
    layer.weight.requires_grad_(False)
    y = layer(torch.ones(2, 4))
    y.sum().backward()
    assert layer.weight.grad is None
    assert torch.equal(layer.bias.grad, torch.full((3,), 2.0))
    with torch.no_grad():
        assert torch.equal(layer(torch.ones(2, 4)), y)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer, x, step = FastLinear(5, 4), torch.randn(6, 5), 1e-2
    y = (layer(x) ** 2).sum()
    y.backward()
    moved = layer.weight.detach().clone()
    moved[2, 3] += step
    back = layer.weight.detach().clone()
    back[2, 3] -= step
    ends = [(nn.functional.linear(x, weight, layer.bias.detach()) ** 2).sum() for weight in (moved, back)]
    assert layer.weight.grad[2, 3].item() == pytest.approx((ends[0] - ends[1]).item() / (2 * step), rel=1e-3)


def test_autocast_and_bf16_are_left_to_torch():
    layer = FastLinear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 8)).dtype == torch.bfloat16
    assert layer.bfloat16()(torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_model_keeps_its_weights_and_ties(monkeypatch):
    monkeypatch.setattr("close.fast.layers.is_on", lambda path: True)
    model = nn.Sequential(
        nn.Embedding(5, 4), nn.Sequential(nn.Linear(4, 4), nn.Dropout(0)), nn.Linear(4, 5, bias=False)
    )
    model[2].weight = model[0].weight
    before, x = dict(model.state_dict()), torch.tensor([[1, 2, 3]])
    said = model(x)
    with fast_layers(model):
        assert type(model[1][0]) is type(model[2]) is FastLinear
        assert type(model[1][1]) is FastDropout
        assert model[2].weight is model[0].weight
        assert model.state_dict().keys() == before.keys()
        torch.testing.assert_close(model(x), said)
        copied, model[2] = model[2], copy.deepcopy(model[2])
    assert type(model[1][0]) is type(model[2]) is type(copied) is nn.Linear
    assert type(model[1][1]) is nn.Dropout
    assert torch.equal(model(x), said)


def test_the_users_model_is_given_back_after_an_error():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1))
    with pytest.raises(KeyError), fast_layers(model):
        raise KeyError
    assert [type(layer) for layer in model] == [nn.Linear, nn.Dropout]


def test_turned_off_layers_stay_plain(monkeypatch):
    monkeypatch.setenv("CLOSE_FAST", "0")
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.1))
    with fast_layers(model):
        assert [type(layer) for layer in model] == [nn.Linear, nn.Dropout]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_dropout_drops_the_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.full((333, 301), 2.0, dtype=torch.bfloat16, requires_grad=True)
    y = FastDropout(p)(x)
    y.float().sum().backward()
    kept = y != 0
    assert y.dtype == torch.bfloat16
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    torch.testing.assert_close(
        y[kept].float(), torch.full_like(y[kept], 2 / (1 - p), dtype=torch.float32), rtol=1e-2, atol=0
    )
    assert torch.equal(x.grad != 0, kept)
    assert torch.equal(x.grad[kept] * 2, y[kept])
    for offset in (1, 2, 3, 4, 5):  # four elements share a random word: they must not fall together
        pairs = kept.flatten()
        both = (pairs[:-offset] & pairs[offset:]).float().mean().item()
        assert both == pytest.approx((1 - p) ** 2, abs=0.01)


@pytest.mark.parametrize("shape", [(0, 3), (1,), (5,), (2, 3, 7)])
def test_dropout_of_any_shape_belongs_to_the_seed(shape):
    x = torch.ones(shape, dtype=torch.bfloat16)
    said = [(torch.manual_seed(4), FastDropout(0.5)(x))[1] for _ in range(2)]
    assert torch.equal(*said)
    assert said[0].shape == x.shape


def test_dropout_of_float32_and_in_evaluation_is_torchs():
    x = torch.randn(40, 9)
    said = [(torch.manual_seed(4), layer(x))[1] for layer in (FastDropout(0.3), nn.Dropout(0.3))]
    assert torch.equal(*said)
    x = x.bfloat16()
    for layer in (FastDropout(0.3).eval(), FastDropout(0.0)):
        assert torch.equal(layer(x), x)
    assert not FastDropout(1.0)(x).any()


@pytest.mark.parametrize("part", [lambda sets: sets[:, 0], lambda sets: sets[..., :256]])
def test_rows_that_lie_apart_cost_no_more(part):
    """One vector of each set: oneDNN has no kernel for the gradient of such rows, and took a thousand times as long."""
    torch.manual_seed(0)
    layer, x = FastLinear(256, 512), part(torch.randn(64, 6, 512))[..., :256]
    apart, close = results(layer, x), results(layer, x.contiguous())
    for ours, theirs in zip(apart, close, strict=True):
        torch.testing.assert_close(ours, theirs)

    def seconds(given):
        begun = time.process_time()
        results(layer, given)
        return time.process_time() - begun

    assert min(seconds(x) for _ in range(3)) < 30 * min(seconds(x.contiguous()) for _ in range(3))
