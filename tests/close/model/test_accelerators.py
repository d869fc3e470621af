"""What a training step does on an accelerator, without one: tensors that only say that they lie on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, T5Config

from close.adapters import row_seeds
from close.model.configuration import CloseConfig
from close.model.language_models.base import Template
from close.model.modeling import CloseModel

SIZES: dict[str, Any] = {"vocab_size": 100, "num_heads": 4, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1}
MODELS = {
    "t5": (T5Config(**SIZES, decoder_start_token_id=0), None),
    "gpt2": (GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=100, n_positions=64), Template()),
    "chat": (
        GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=100, n_positions=64),
        Template(before=(3, 7), after=(4, 5), end=1),
    ),
}


class Waits(TorchDispatchMode):
    """Counts what the processor has to wait for the accelerator for, outside of transformers: values, and copies to it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, to = str(func), kwargs.get("device")
        if "_local_scalar_dense" in name or "nonzero" in name:
            self.seen[name] += 1
        if "_to_copy" in name and to is not None and torch.device(to).type != args[0].device.type:
            self.seen[name] += 1
        return func(*args, **kwargs)


@pytest.fixture
def accelerator() -> Iterator[None]:
    with FakeTensorMode(), torch.device("cuda"):
        yield


def made(name: str) -> CloseModel:
    language_model, template = MODELS[name]
    config = CloseConfig(
        encoder="e",
        encoder_fingerprint="f" * 32,
        embed_dim=8,
        adapter={"gaussian": {"cosine": 0.4}},
        language_model=language_model,
        template=template.values() if template else None,
    )
    return CloseModel(config).train()


def step(model: CloseModel) -> Any:
    embeds, labels = torch.empty(4, 8), torch.ones(4, 6, dtype=torch.long)
    context = torch.ones(4, 3, dtype=torch.long)
    rows = torch.ones(4, dtype=torch.long)
    with Waits() as waits:
        seeds = row_seeds(0, 1, rows)
        output = model(embeds, "text", context, torch.ones_like(context), labels, seeds=seeds, num_items_in_batch=7)
        model.prompt(embeds, "image")
    return waits.seen, output


@pytest.mark.parametrize("name", ["gpt2", "chat"])
def test_a_step_waits_for_nothing(accelerator, name):
    seen, output = step(made(name))
    assert output.loss.device.type == "cuda"
    assert not seen


def test_a_step_of_t5_keeps_no_cache(accelerator):
    seen, output = step(made("t5"))
    assert output.loss.device.type == "cuda"
    assert output.get("past_key_values") is None
    assert sum(seen.values()) <= 4  # transformers' own
