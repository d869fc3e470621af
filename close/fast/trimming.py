"""Text towers of open_clip without the padding: a text costs what it is long, not what the context holds.

Exact only for causal towers that pool at the end token, without an appended class token: open_clip's CLIP.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from close.fast.probe import is_on

__all__ = ["can_trim", "text_lengths", "trimmed_features", "trims"]


def trims(model: Any) -> bool:
    """Whether the texts of this open_clip model are cut here."""
    return can_trim(model) and is_on("trimmed_text")


def can_trim(model: Any) -> bool:
    """Whether cutting after the end token changes nothing."""
    import open_clip

    return type(model) is open_clip.CLIP and model.attn_mask is not None and model.text_pool_type in ("argmax", "eos")


def text_lengths(model: Any, ids: Tensor) -> Tensor:
    """(N,) tokens up to the pooled end token of (N, context) ids."""
    ends = torch.eq(ids, model.text_eos_id).int().argmax(-1) if model.text_pool_type == "eos" else ids.argmax(-1)
    return ends + 1


def trimmed_features(model: Any, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, D) what `model.encode_text` gives, of ids (N, L) that are cut; its fixed mask is cut too."""
    from open_clip.transformer import text_global_pool

    length = ids.shape[1]
    x = model.token_embedding(ids).to(dtype) + model.positional_embedding[:length].to(dtype)
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = text_global_pool(model.ln_final(x), ids, model.text_pool_type, eos_token_id=getattr(model, "text_eos_id", None))
    projection = model.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
