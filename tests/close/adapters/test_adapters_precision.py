"""Adapters keep float32, whatever precision a model is trained in."""

import pytest
import torch
from torch.nn import functional as F

from close.adapters import build_adapter, row_seeds
from close.adapters.noise import _mix, _mixed, _wrapped
from close.errors import NotFittedError
from close.fast.precision import in_autocast

DIM = 64


def rows(count, seed):
    return F.normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("spec", ["linear", "covariance", "memory", "nearest", ["mean_shift", "covariance"]])
@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("training", [True, False])
def test_autocast_leaves_an_adapter_as_it_is_in_use(spec, modality, training):
    adapter = build_adapter(spec, DIM).fit(text=rows(300, 0), image=rows(300, 1), quiet=True).train(training)
    asked, seeds = rows(50, 2), row_seeds(0, 0, torch.arange(50))
    wanted = adapter(asked, modality, seeds)
    with torch.autocast("cpu", torch.bfloat16):
        found = adapter(asked, modality, seeds)
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == torch.float32
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("number", [0, 1, 7, -1, 2**31, 2**63 - 1, 2**64 - 1, -(2**63), 123456789 * 2**40])
def test_a_number_is_mixed_as_a_tensor_is(number):
    assert _mixed(number) == int(_mix(torch.tensor(_wrapped(number))))


def test_a_fitted_adapter_does_not_ask_its_buffer_at_each_step(monkeypatch):
    adapter = build_adapter(["mean_shift", {"gaussian": {"std": 0.1}}], DIM).fit(text=rows(9, 0), image=rows(9, 1))
    adapter(rows(2, 2), "text")
    asked = []
    monkeypatch.setattr(torch.Tensor, "__bool__", asked.append)
    adapter(rows(2, 2), "text", torch.arange(2))
    assert not asked


def test_an_unfitted_state_makes_a_fitted_adapter_unfitted():
    adapter = build_adapter("mean_shift", DIM).fit(text=rows(9, 0), image=rows(9, 1))
    fitted = {name: value.clone() for name, value in adapter.state_dict().items()}
    adapter(rows(2, 2), "text")
    adapter.load_state_dict(build_adapter("mean_shift", DIM).state_dict())
    with pytest.raises(NotFittedError):
        adapter(rows(2, 2), "text")
    adapter.load_state_dict(fitted)
    assert adapter.is_fitted


def test_shapes_are_had_without_values():
    adapter = build_adapter({"gaussian": {"std": 0.1}}, DIM).eval()
    assert adapter(rows(2, 2).to("meta"), "text").shape == (2, DIM)
    with torch.autocast("cpu", torch.bfloat16):
        assert not in_autocast(torch.device("meta"))
        assert in_autocast(torch.device("cpu"))
