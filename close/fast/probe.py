"""Which fast paths this machine and these versions allow: found out once, asked by every use, turned off by `CLOSE_FAST=0`.

A probe runs its piece on something small beside the plain path of torch, transformers or open_clip. Where it raises, or says
something else, that path is taken instead and the reason kept. Turned off, everything gives the same: texts in fp32, and
tables within 1e-6; `precision: auto` is fp32 then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from close.errors import reason
from close.fast.families import FAMILIES
from close.fast.switch import VARIABLE, is_allowed

__all__ = ["fast_report", "is_on", "why_off"]


def is_on(path: str) -> bool:
    """Whether this fast path (a name of `fast_report`) is taken here."""
    return why_off(path) is None


def why_off(path: str) -> str | None:
    """Why this fast path is not taken here; None where it is."""
    return (_probed(path) or None) if is_allowed() else f"turned off by {VARIABLE}=0"


def fast_report() -> dict[str, dict[str, Any]]:
    """Every fast path by name: `on`, and the `reason` why not (None where it is on)."""
    reasons = {path: why_off(path) for path in _PROBES}
    return {path: {"on": why is None, "reason": why} for path, why in reasons.items()}


@cache
def _probed(path: str) -> str:
    """Why a path can't be taken; empty where it can."""
    # a probe may come first in the midst of anything: it neither sees the caller's modes nor moves the caller's generator
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
        torch.random.fork_rng(devices=[]),
    ):
        torch.default_generator.manual_seed(0)  # the CPU's alone: `torch.manual_seed` moves every device's
        try:
            return _PROBES[path]()
        except Exception as error:  # whatever another version raises: the plain path is there
            return f"{type(error).__name__}: {reason(error, whole=False)}"


def _search(family: str) -> str:
    """Greedy and beam search by `close.fast.search`, rather than transformers' `generate`."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

    from close.fast.search import Search, find_texts

    width = {"hidden_size": 8, "intermediate_size": 16, "ffn_dim": 16, "d_ff": 16, "word_embed_proj_dim": 8}
    depth = {
        "num_hidden_layers": 2,
        "num_decoder_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "d_kv": 4,
    }
    tokens = {"vocab_size": 20, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 0}
    config = AutoConfig.for_model(family, **width, **depth, **tokens)
    model = (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM).from_config(config).eval()
    model.get_output_embeddings().weight = nn.Parameter(torch.randn(20, 8))
    prompt, mask = torch.randn(3, 4, 8), (torch.arange(4) >= torch.tensor([[0], [2], [1]])).long()
    for num_beams in (1, 3):
        settings = {"num_beams": num_beams, "max_new_tokens": 5}
        search = Search.of(model, GenerationConfig(**settings), prompt.shape[1])
        if search is None:
            return "transformers' settings are others than those known"
        found = find_texts(model, prompt, mask, search)[0]
        wanted = model.generate(inputs_embeds=prompt, attention_mask=mask, **settings)
        if found.tolist() != wanted.tolist():
            return f"it finds another text than transformers ({num_beams} beams)"
    return ""


def _packed_layers() -> str:
    """Frozen weights in oneDNN's own layout."""
    from close.fast.packing import packed, product

    if not torch.backends.mkldnn.is_available():
        return "this torch has no oneDNN"
    x, weight, bias = torch.randn(3, 16), torch.randn(24, 16), torch.randn(24)
    return _differs(product(x, packed(weight), bias), F.linear(x, weight, bias))


def _training_layers() -> str:
    """Linear layers whose products are oneDNN's, forward and backward."""
    from transformers.pytorch_utils import Conv1D

    from close.fast.layers import FastConv1D, FastLinear

    capability = torch.backends.cpu.get_cpu_capability()
    if capability != "AVX512":
        return f"the processor has no AVX-512 ({capability}), and torch's own products are as fast"
    results = []
    for layer in (nn.Linear(6, 5), FastLinear(6, 5), Conv1D(5, 6), FastConv1D(5, 6)):
        layer.load_state_dict(
            {
                name: torch.linspace(-1, 1, weight.numel()).view(weight.shape)
                for name, weight in layer.state_dict().items()
            }
        )
        results.append(_with_gradients(layer, torch.linspace(-1, 1, 24).view(4, 6)))
    linear, fast_linear, conv, fast_conv = results
    pairs = [*zip(fast_linear, linear, strict=True), *zip(fast_conv, conv, strict=True)]
    return next((why for ours, theirs in pairs if (why := _differs(ours, theirs))), "")


def _training_gelu() -> str:
    """GPT-2's GELU in one pass."""
    from transformers.activations import NewGELUActivation

    from close.fast.layers import FastGelu

    pairs = zip(
        *(_with_gradients(layer, torch.linspace(-9, 9, 99)) for layer in (FastGelu(), NewGELUActivation())), strict=True
    )
    return next((why for ours, theirs in pairs if (why := _differs(ours, theirs))), "")


def _with_gradients(layer: nn.Module, x: torch.Tensor) -> list[Any]:
    """What a layer gives, and its gradients at the input and the weights."""
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        y = layer(x)
        (y * y).sum().backward()
    return [y.detach(), x.grad, *(weight.grad for weight in layer.parameters())]


def _training_dropout() -> str:
    """Dropout that draws 16 random bits an element in bf16."""
    from close.fast.layers import FastDropout

    kept = FastDropout(0.25).train()(torch.ones(4096, dtype=torch.bfloat16)) != 0
    share = kept.float().mean().item()
    return "" if abs(share - 0.75) < 0.05 else f"it keeps {share:.2f} of the elements instead of 0.75"


def _kept_memory() -> str:
    """Memory that glibc keeps between steps."""
    from close.fast.memory import glibc

    return "" if glibc() else "the C library is not glibc"


def _trimmed_text() -> str:
    """Text towers of open_clip that read no padding."""
    import open_clip

    from close.fast.trimming import can_trim, text_lengths, trimmed_features

    text = open_clip.CLIPTextCfg(context_length=9, vocab_size=20, width=8, heads=2, layers=1)
    vision = open_clip.CLIPVisionCfg(image_size=8, patch_size=8, width=8, head_width=8, layers=1)
    model = open_clip.CLIP(8, vision, text).eval()
    if not can_trim(model):
        return "open_clip's CLIP is another than the one known"
    ids = torch.tensor([[18, 3, 19, 0, 0, 0, 0, 0, 0], [18, 5, 7, 19, 0, 0, 0, 0, 0]])
    longest = int(text_lengths(model, ids).max())
    return _differs(trimmed_features(model, ids[:, :longest], torch.float32), model.encode_text(ids))


def _int8() -> str:
    """Products in 8 bits, by `precision: int8`; at the ends of their range too, where some processors overflow."""
    from close.fast.int8 import Int8Linear

    weight, rows = torch.randn(32, 64), torch.randn(5, 64)
    weight[0] = 1.0
    rows[0] = 1.0
    found, wanted = Int8Linear(weight, torch.ones(32))(rows), F.linear(rows, weight, torch.ones(32))
    least = F.cosine_similarity(found, wanted).min().item()
    off = abs(found[0, 0].item() - 65)
    return "" if least > 0.999 and off < 0.1 else f"cosine {least:.4f} with the plain result, {off:.2g} off at the end"


def _bf16() -> str:
    """bf16 where `precision: auto` may take it: the device multiplies it in hardware."""
    from close.fast.precision import multiplies_bf16

    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return "" if multiplies_bf16(device) else f"{device.type} does not multiply bf16 in hardware"


def _differs(ours: Any, theirs: Any) -> str:
    off = (ours - theirs).abs().max().item()
    return "" if off < 1e-4 else f"it is {off:.1g} off the plain result"


_PROBES: dict[str, Callable[[], str]] = {
    **{f"{family}_search": partial(_search, family) for family in FAMILIES.values()},
    "packed_layers": _packed_layers,
    "training_layers": _training_layers,
    "training_gelu": _training_gelu,
    "training_dropout": _training_dropout,
    "kept_memory": _kept_memory,
    "trimmed_text": _trimmed_text,
    "int8": _int8,
    "bf16": _bf16,
}
