"""Training's linear layers: torch's results, sooner."""

import pytest
import torch
from torch import nn

from close.lean import LeanLinear, make_lean
from close.packing import can_pack

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
    plain, lean = nn.Linear(7, 11, bias=bias), LeanLinear(7, 11, bias=bias)
    lean.load_state_dict(plain.state_dict())
    x = torch.randn(shape)
    for ours, theirs in zip(results(lean, x), results(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_frozen_weights_and_inputs_without_gradient():
    layer = LeanLinear(4, 3)
    layer.weight.requires_grad_(False)
    y = layer(torch.ones(2, 4))
    y.sum().backward()
    assert layer.weight.grad is None
    assert torch.equal(layer.bias.grad, torch.full((3,), 2.0))
    with torch.no_grad():
        assert torch.equal(layer(torch.ones(2, 4)), y)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer, x, step = LeanLinear(5, 4), torch.randn(6, 5), 1e-2
    y = (layer(x) ** 2).sum()
    y.backward()
    moved = layer.weight.detach().clone()
    moved[2, 3] += step
    back = layer.weight.detach().clone()
    back[2, 3] -= step
    ends = [(nn.functional.linear(x, weight, layer.bias.detach()) ** 2).sum() for weight in (moved, back)]
    assert layer.weight.grad[2, 3].item() == pytest.approx((ends[0] - ends[1]).item() / (2 * step), rel=1e-3)


def test_autocast_and_bf16_are_left_to_torch():
    layer = LeanLinear(8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 8)).dtype == torch.bfloat16
    assert layer.bfloat16()(torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_model_keeps_its_weights_and_ties(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    model = nn.Sequential(nn.Embedding(5, 4), nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 5, bias=False))
    model[2].weight = model[0].weight
    before, x = dict(model.state_dict()), torch.tensor([[1, 2, 3]])
    said = model(x)
    make_lean(model)
    assert type(model[1][0]) is type(model[2]) is LeanLinear
    assert model[2].weight is model[0].weight
    assert model.state_dict().keys() == before.keys()
    torch.testing.assert_close(model(x), said)
