"""Frozen weights in bf16: what autocast makes of them anyway, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig

from close.model.frozen import hold_in_bf16
from close.model.language_models.kinds import language_model_kind
from close.model.language_models.loading import load_language_model

FAMILIES = ("t5", "flan_t5", "mt5", "bart", "gpt2", "opt", "llama", "mistral", "qwen2", "qwen3")
FAMILIES += ("gemma", "gemma2", "gemma3", "phi")


def frozen(zoo: Any, family: str) -> Any:
    return load_language_model(str(zoo(f"{family}_dir"))).requires_grad_(False)


def numbers(model: Any, dropout: bool) -> list[torch.Tensor]:
    """Logits, the gradients that the prompt gets, and a text, under autocast."""
    kind, table = language_model_kind(model.config), model.get_input_embeddings()
    tokens = torch.arange(12).view(2, 6) + 9
    prompt = table(tokens[:, :3]).requires_grad_()
    mask, labels = torch.tensor([[0, 1, 1], [1, 1, 1]]), tokens[:, 3:]
    prompt, mask = kind.arrange(prompt, mask)
    prompt.retain_grad()
    torch.manual_seed(1)
    model.train(dropout)
    with torch.autocast("cpu", torch.bfloat16):
        logits = kind.predict(model, prompt, mask, labels).logits
        logits.float().log_softmax(-1).gather(2, labels[..., None]).sum().backward()
        text = model.eval().generate(inputs_embeds=prompt.detach(), attention_mask=mask, num_beams=2, max_new_tokens=6)
    assert prompt.grad is not None
    return [logits.detach(), prompt.grad, text]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_are_those_of_autocast(zoo, family):
    model = frozen(zoo, family)
    plain = deepcopy(model)
    hold_in_bf16(model)
    formats = {weight.dtype for weight in model.parameters()}
    assert formats == {torch.float32, torch.bfloat16}
    assert model.dtype == model.get_input_embeddings().weight.dtype == torch.float32
    for dropout in (False, True):
        for one, other in zip(numbers(plain, dropout), numbers(model, dropout), strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


class Products(TorchDispatchMode):
    """What is computed of what, formats and layouts included, without conversions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if str(func).startswith("aten.") and not any(name in str(func) for name in ("_to_copy", "aten.t.", "detach")):
            self.seen.append((str(func), *map(_about, tree_leaves((args, kwargs, found)))))
        return found


def _about(value: Any) -> Any:
    return (value.dtype, value.shape, value.stride()) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("family", ["t5", "flan_t5", "gpt2"])
def test_a_gpu_is_given_the_same_products(zoo, family):
    """Its autocast has lists of its own; what the backward pass keeps decides what that computes."""
    found = []
    for held in (False, True):
        with FakeTensorMode(), torch.device("cuda"):
            config = AutoConfig.from_pretrained(zoo(f"{family}_dir"))
            kind, kept = language_model_kind(config), list[Any]()
            model = kind.auto.from_config(config).requires_grad_(False).train()
            if held:
                hold_in_bf16(model)
            prompt, labels = torch.zeros(2, 3, 16, requires_grad=True), torch.ones(2, 4, dtype=torch.long)
            keep = saved_tensors_hooks(lambda one, kept=kept: [kept.append(_about(one)), one][1], lambda one: one)
            with _autocast_cuda(), keep, Products() as log:
                kind.predict(model, prompt, torch.ones(2, 3, dtype=torch.long), labels)
            found.append((log.seen, kept))
    assert torch.bfloat16 in {one[0] for one in found[0][1]}
    assert found[0] == found[1]


@contextmanager
def _autocast_cuda() -> Iterator[None]:
    """`torch.autocast` declines where there is none."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def test_what_autocast_leaves_stays(zoo):
    """Embeddings, an output layer that is one, norms, and what is trained."""
    model = frozen(zoo, "gpt2")
    trained = model.transformer.h[0].attn.c_attn.weight.requires_grad_()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    hold_in_bf16(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert trained.dtype == torch.float32
    for name, weight in model.named_parameters():
        linear = any(part in name for part in ("attn.c_", "mlp.c_")) and weight is not trained
        assert weight.dtype == (torch.bfloat16 if linear else torch.float32), name
        assert torch.equal(weight, before[name].to(weight.dtype))


def test_others_stay_as_they_are(zoo):
    model = frozen(zoo, "gpt2")
    model.config.model_type = "gpt3"
    hold_in_bf16(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
