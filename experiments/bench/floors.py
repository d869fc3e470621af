"""The least time that an item of a part could take on this machine: a ratio to the plain way says nothing of what is left.

A floor is `operations` over the measured rate of the unit that does them, or `bytes` over the measured bandwidth of memory,
whichever is longer. Operations are those of products; what else a part can't do without (decoding a picture) is not in its floor.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer

from close.demo.run import TRAINING
from close.fast.packing import can_pack, is_conv1d, packed, product
from close.mini import LANGUAGE_MODEL_DIR
from experiments.bench.models import World

__all__ = [
    "Work",
    "bandwidth",
    "counted",
    "demo_work",
    "floor",
    "multiplied",
    "peak",
    "search_operations",
    "step_operations",
    "tower_operations",
    "wait",
    "works",
]

BEAMS, STEPS, INPUTS, BATCH = 5, 32, 8, 32
"""Of the searches: beams, tokens, and vectors at once. Of a training step: targets."""


@dataclass(frozen=True)
class Work:
    """What an item takes at least.

    Attributes:
        operations: multiplications and additions. bytes: that come from memory, or go there. unit: "fp32" or "bf16".
    """

    operations: float
    bytes: float
    unit: str


def floor(work: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    """Seconds of an item, and what they are spent on."""
    operations = work["operations"] / (machine["peak_gflops"][work["unit"]] * 1e9)
    moved = work["bytes"] / (machine["memory_gb_per_second"] * 1e9)
    return {"seconds": max(operations, moved), "by": "operations" if operations >= moved else "bytes"}


def peak(dtype: torch.dtype, size: int = 2048, device: str | torch.device = "cpu") -> float:
    """GFLOP/s of the best of ten square products, by torch's own kernel or by oneDNN's over a packed weight."""
    a, b = (torch.randn(size, size).to(device, dtype) for _ in range(2))
    laid_out = packed(b) if can_pack(b) else None
    ways = [lambda: a @ b, *([lambda: product(a, laid_out)] if laid_out is not None else [])]
    return 2 * size**3 / min(_least(way, 10) for way in ways) / 1e9


def wait() -> None:
    """Until an accelerator, where there is one, has done what it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def bandwidth(megabytes: int = 1024) -> float:
    """GB/s of the best of five readings of more than any cache holds."""
    numbers = torch.ones(megabytes * 2**18)
    return numbers.nbytes / _least(numbers.sum, 5) / 1e9


def _least(work: Any, times: int) -> float:
    found = []
    for _ in range(times):
        wait()
        start = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - start)
    return min(found)


def works(part: str, world: World, unit: str) -> dict[str, Any]:
    """Work of each variant of a part that reads a world's models; `unit` is that of `auto`."""
    if part == "text_embedding":
        return {"exact": _text(world, "fp32"), "bf16": _text(world, "bf16")}
    if part.endswith("captions_from_features"):
        return {name: asdict(_search(world, name)) for name in ("fp32", "bf16")}
    if part == "photos_to_captions":
        said = _search(world, unit)
        whole = Work(tower_operations(world) + said.operations, said.bytes, unit)
        return dict.fromkeys(("auto", "by_32"), asdict(whole))
    return {"auto": asdict(_step(world, unit))}


def tower_operations(world: World) -> float:
    """Of a photo in the image tower."""
    photo = torch.zeros(1, 3, *_pair(world.clip.visual.image_size))
    with torch.inference_mode():
        return counted(lambda: world.clip.encode_image(photo))


def search_operations(world: World) -> float:
    """Of a caption of 32 tokens with five beams."""
    return _search(world, "bf16").operations


def step_operations(world: World) -> float:
    """Of a caption in a training step."""
    return _step(world, "bf16").operations / BATCH


def counted(work: Callable[[], Any]) -> float:
    """Operations of the products in it. torch counts none of those within its fused attention, so that is taken apart."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return float(counter.get_total_flops())


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _text(world: World, unit: str) -> dict[str, Any]:
    """A caption of n tokens: 24·width² a token and layer, and attention to each; nothing after the end token is needed."""
    width, layers = world.clip.transformer.width, world.clip.transformer.layers
    ends = world.tokenize(world.captions).argmax(dim=1) + 1  # the end token has the greatest id
    tokens = ends.double()
    one = layers * (24 * width**2 * tokens + 4 * width * tokens**2) + 2 * width * world.clip.text_projection.shape[1]
    return asdict(Work(float(one.mean()), 0.0, unit))


def multiplied(world: World) -> list[tuple[Tensor, list[int]]]:
    """Weights (out, in) of the language model that a search of 8 vectors multiplies with, each with its numbers of rows."""
    length = world.prefix.out_features // world.lm.config.hidden_size
    prompt, step = INPUTS * length, [BEAMS * INPUTS] * (STEPS - 1)
    found = []
    for name, layer in world.lm.named_modules():
        if not (type(layer) is nn.Linear or is_conv1d(layer)):
            continue
        weight = layer.weight.t() if is_conv1d(layer) else layer.weight
        of_prompt = name.startswith("encoder.") or name.endswith(("EncDecAttention.k", "EncDecAttention.v"))
        if of_prompt:
            rows = [prompt]
        elif world.lm.config.is_encoder_decoder or name == "lm_head":
            rows = [INPUTS, *step]
        else:
            rows = [prompt, *step]
        found.append((weight, rows))
    return found


def _search(world: World, unit: str) -> Work:
    """A caption of 32 tokens: the weights come from memory once a step, since those of all layers don't stay in a cache."""
    size = 2 if unit == "bf16" else 4
    used = multiplied(world)
    operations = sum(2 * weight.numel() * sum(rows) for weight, rows in used)
    moved = sum(size * weight.numel() * len(rows) for weight, rows in used)
    return Work(operations / INPUTS, moved / INPUTS, unit)


def _step(world: World, unit: str) -> Work:
    """Forward and backward of a step at the mean target length; AdamW reads four fp32 numbers a weight, and writes three."""
    ids = world.tokenizer(world.captions[:BATCH], padding=True, return_tensors="pt").input_ids
    mean = round(sum(len(text.split()) + 1 for text in world.captions) / len(world.captions))
    return trained(world.lm, ids[:, :mean], world.prefix.out_features // world.lm.config.hidden_size, unit)


def trained(lm: Any, targets: Tensor, prefix_length: int, unit: str) -> Work:
    """A step on (B, T) target ids behind a prefix."""
    rows, length = targets.shape
    is_t5 = lm.config.is_encoder_decoder
    inputs = {"labels": targets.contiguous()} if is_t5 else {"logits_to_keep": length}
    prompt = torch.zeros(rows, prefix_length if is_t5 else prefix_length + length - 1, lm.config.hidden_size)
    operations = counted(lambda: lm(inputs_embeds=prompt, **inputs).logits.sum().backward())
    lm.zero_grad()
    return Work(operations, 28.0 * sum(one.numel() for one in lm.parameters()), unit)


def demo_work(data: Path) -> dict[str, Any]:
    """A caption of a batch of the demo's training: of the mini language model, in float32."""
    tokenizer, rows = AutoTokenizer.from_pretrained(LANGUAGE_MODEL_DIR), int(TRAINING["batch_size"])
    ids = [tokenizer(json.loads(line)["source"]).input_ids for line in data.read_text().splitlines()]
    targets = torch.ones(rows, round(sum(map(len, ids)) / len(ids)), dtype=torch.long)
    t5 = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(LANGUAGE_MODEL_DIR))
    step = trained(t5, targets, 4, "fp32")
    return {"auto": asdict(Work(step.operations / rows, step.bytes / rows, step.unit))}
