"""Frozen layers for the CPU: weights laid out once, as oneDNN's products want them.

On the CPU torch hands a float32 product to MKL, and lays bfloat16 weights out anew for each. Frozen weights need that only once:
with AVX-512, fp32 then runs at twice the rate and more, bf16 at up to 1.3 times, and the result is the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from close.fast.int8 import Int8Linear
from close.fast.probe import is_on

__all__ = ["PackedLinear", "can_pack", "is_conv1d", "pack", "packed", "product"]


def can_pack(weight: Tensor) -> bool:
    """Whether products with this weight gain from packing."""
    return (
        weight.device.type == "cpu"
        and (weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and _packs_bf16()))
        and is_on("packed_layers")
    )


def _packs_bf16() -> bool:
    """Whether oneDNN takes bf16 on this processor at all; torch itself does, slowly."""
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", bool)
    return bool(check())


def packed(weight: Tensor) -> Any:
    """A weight in oneDNN's own layout, which nothing but `product` can read."""
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def product(input: Tensor, weight: Any, bias: Tensor | None = None) -> Tensor:
    """`F.linear` by oneDNN; the weight may be packed."""
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


class PackedLinear(nn.Linear):
    """`nn.Linear` for inference, with the weight in oneDNN's own layout where that is faster.

    Args:
        weight: (out, in). bias: (out,).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.packed = can_pack(weight)
        weight = weight.detach().contiguous()
        # no parameters: a packed weight is opaque, and nothing here is ever trained or saved
        self.__dict__["weight"] = packed(weight) if self.packed else weight
        self.__dict__["bias"] = None if bias is None else bias.detach()

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        if not self.packed:
            return F.linear(input, self.weight, self.bias)
        return product(input, self.weight, self.bias)


class _PackedAttention(nn.Module):
    """What open_clip's blocks ask of `nn.MultiheadAttention`: self-attention with an additive mask."""

    def __init__(self, attention: nn.MultiheadAttention, linear: Callable[[Tensor, Tensor | None], nn.Module]) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.qkv = linear(attention.in_proj_weight, attention.in_proj_bias)
        self.out = linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """(B, L, C) → (B, L, C) and no weights."""
        q, k, v = self.qkv(query).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if attn_mask is not None and attn_mask.ndim == 3:  # (B·heads, L, L)
            attn_mask = attn_mask.unflatten(0, (-1, self.heads))
        if attn_mask is None and q.dtype == torch.bfloat16:  # torch's own kernel takes twice as long
            q, k, v = (part.contiguous() for part in (q, k, v))
            out = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1), dim=-1) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out(out.transpose(1, 2).flatten(2)), None


def pack(model: Any, *, int8: bool = False) -> None:
    """Replace the linear layers of a frozen model by packed ones, in place; whatever can't be packed stays.

    Args:
        int8: in 8 bits, all but what makes the features.
    """
    linear: Callable[[Tensor, Tensor | None], nn.Module] = Int8Linear if int8 else PackedLinear
    for module in list(model.modules()):
        if type(module).__name__ == "AttentionPool2d":  # open_clip's ResNets hand its weights to a function of torch
            continue
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and can_pack(child.weight):
                own = PackedLinear if module is model and name.endswith("projection") else linear
                setattr(module, name, own(child.weight, child.bias))
            elif is_conv1d(child) and can_pack(child.weight):
                setattr(module, name, linear(child.weight.t(), child.bias))
            elif type(module).__name__ == "ResidualAttentionBlock" and _is_plain(module, child):
                setattr(module, name, _PackedAttention(child, linear))


def is_conv1d(module: nn.Module) -> bool:
    """Whether a layer is GPT-2's linear one, whose weight is (in, out)."""
    return (type(module).__module__, type(module).__name__) == ("transformers.pytorch_utils", "Conv1D")


def _is_plain(block: nn.Module, child: nn.Module) -> bool:
    """Self-attention of batch-first (B, L, C), as open_clip's towers have it."""
    return (
        type(child) is nn.MultiheadAttention
        and not hasattr(block, "ln_1_kv")  # cross-attention
        and child.in_proj_weight is not None
        and child.batch_first
        and child.bias_k is None
        and can_pack(child.in_proj_weight)
    )
