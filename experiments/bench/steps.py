"""`python -m experiments.bench.steps`: what is left in a training step of T5-base and GPT-2, and what bf16 weights would gain.

Three variants take turns on the same batches: the step as it is (bf16 autocast, fused AdamW, clipped gradients), the same with
weights in bf16 and fp32 copies of them in the optimizer, which then clips where it updates, and the step's own products alone, at
their sizes and layouts. Writes steps.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, T5Config, T5ForConditionalGeneration
from transformers.pytorch_utils import Conv1D

from close.fast.layers import fast_layers
from close.fast.memory import kept_memory
from close.io.files import write_json
from experiments.bench.__main__ import describe_machine
from experiments.bench.models import GPT2_SIZES, SIZES, sentences

BATCH, SETTLING = 32, 20
"""Captions of a step, and steps until the heap has settled."""
PREFIX = {"t5": 4, "gpt2": 10}
PRODUCTS = ("mm", "bmm", "addmm")


def main() -> None:
    """All variants of both models."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.steps")
    parser.add_argument("--rounds", type=int, default=12, help="steps of each variant that are counted")
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {}
    for name in PREFIX:
        times = timed(name, options.size, options.rounds)
        now = statistics.median(times["autocast"])
        each = {variant: statistics.median(seconds) for variant, seconds in times.items()}
        found[name] = {
            "seconds": {variant: round(seconds, 3) for variant, seconds in each.items()},
            "over_autocast": {variant: round(seconds / now, 3) for variant, seconds in each.items()},
            "runs": {variant: [round(one, 4) for one in seconds] for variant, seconds in times.items()},
        }
        print(name, found[name]["seconds"], found[name]["over_autocast"], file=sys.stderr)
    write_json(options.out, {**found, "machine": describe_machine(options.threads)})


def timed(name: str, size: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each step that is counted, by variant; both trainings see the same batches."""
    times = defaultdict[str, list[float]](list)
    lengths = [len(text.split()) + 1 for text in sentences(BATCH * (SETTLING + rounds))]
    words = [max(lengths[start : start + BATCH]) for start in range(0, len(lengths), BATCH)]
    models = {"autocast": made(name, size), "bf16_weights": made(name, size)}
    hold_linear(models["bf16_weights"])
    optimizers = {"autocast": Autocast(models["autocast"]), "bf16_weights": Copies(models["bf16_weights"])}
    with kept_memory(), fast_layers(models["autocast"]), fast_layers(models["bf16_weights"]):
        for number, count in enumerate(words):
            for variant, model in models.items():
                seconds = clocked(partial(step, model, optimizers[variant], PREFIX[name], count))
                if number >= SETTLING:
                    times[variant].append(seconds)
            if number >= SETTLING:
                seen = Products()
                with seen:
                    step(models["autocast"], optimizers["autocast"], PREFIX[name], count)
                times["products"].append(seen.seconds())
    return dict(times)


def clocked(work: Callable[[], Any]) -> float:
    """Seconds of the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def made(name: str, size: str) -> PreTrainedModel:
    """T5 or GPT-2 with random weights, in training."""
    torch.manual_seed(0)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**GPT2_SIZES[size])).train()
    return T5ForConditionalGeneration(T5Config(**SIZES[size][1], decoder_start_token_id=0)).train()


def step(model: PreTrainedModel, optimizer: Any, prefix: int, words: int) -> None:
    """Forward, backward and update on random targets of that many words."""
    labels = torch.randint(2, 1000, (BATCH, words))
    prompt = torch.randn(BATCH, prefix, model.config.hidden_size)
    with torch.autocast("cpu", torch.bfloat16):
        if not model.config.is_encoder_decoder:
            prompt = torch.cat([prompt, model.get_input_embeddings()(labels)], dim=1)
            labels = torch.cat([torch.full((BATCH, prefix), -100), labels], dim=1)
        loss = model(inputs_embeds=prompt, labels=labels, use_cache=False).loss
    loss.backward()
    optimizer.step()


def hold_linear(model: nn.Module) -> None:
    """Weights of linear layers in bf16, but for an output layer that is tied to the embedding."""
    shared = {
        id(weight) for layer in model.modules() if isinstance(layer, nn.Embedding) for weight in layer.parameters()
    }
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, Conv1D)):
            for weight in layer.parameters(recurse=False):
                if id(weight) not in shared:
                    weight.data = weight.data.bfloat16()


class Autocast:
    """As training does it: gradients clipped to a norm of 1, then torch's fused AdamW."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = [*model.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-4, fused=True)

    def step(self) -> None:
        """Update."""
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


class Copies:
    """The same with a float32 copy of each weight; clips, updates and rounds it in parts that stay in the caches."""

    PART = 2**21

    def __init__(self, model: nn.Module) -> None:
        self.weights = [*model.parameters()]
        self.exact = [weight.detach().float() for weight in self.weights]
        self.moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in self.exact]
        self.done = 0

    @torch.no_grad()
    def step(self) -> None:
        """Update."""
        norms = [torch.linalg.vector_norm(w.grad, dtype=torch.float32) for w in self.weights if w.grad is not None]
        factor = (1.0 / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6)).clamp(max=1.0)
        for weight, exact, (first, second) in zip(self.weights, self.exact, self.moments, strict=True):
            assert weight.grad is not None
            for rows in parts(exact, self.PART):
                own = exact[rows]
                grad = weight.grad[rows].float().mul_(factor)
                at = [torch.tensor(float(self.done))]
                moments: list[list[Tensor]] = [[first[rows]], [second[rows]], [], at]
                settings = {"beta1": 0.9, "beta2": 0.999, "lr": 1e-4, "weight_decay": 0.01, "eps": 1e-8}
                adamw([own], [grad], *moments, fused=True, amsgrad=False, maximize=False, **settings)  # type: ignore[arg-type]
                weight[rows].copy_(own)
            weight.grad = None
        self.done += 1


def parts(rows: Tensor, most: int) -> Iterator[slice]:
    """Consecutive rows of so many numbers."""
    count = max(1, most // max(1, rows[0].numel()))
    return (slice(start, start + count) for start in range(0, len(rows), count))


class Products(TorchDispatchMode):
    """Remembers what a step multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS:
            self.calls.append((func, [alike(one) for one in args]))
        return func(*args, **(kwargs or {}))

    def seconds(self) -> float:
        """Of the products alone, made again."""
        return clocked(lambda: [func(*factors) for func, factors in self.calls])


_made: dict[Any, Tensor] = {}


def alike(one: Tensor) -> Tensor:
    """A tensor of the same size, format and layout; one of each kind: caches may hold it where they lose the step's own."""
    kind = (tuple(one.shape), one.stride(), one.dtype)
    if kind not in _made:
        with torch.no_grad():
            room = torch.randn(1 + sum((n - 1) * s for n, s in zip(one.shape, one.stride(), strict=True)))
            _made[kind] = room.to(one.dtype).as_strided(one.shape, one.stride())
    return _made[kind]


if __name__ == "__main__":
    main()
