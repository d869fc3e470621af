"""Contrastive encoders: a text tower and a second tower ("image") in one space, frozen, outside the model."""

from __future__ import annotations

from pathlib import Path

import torch

from close.encoders.base import ContrastiveEncoder, fingerprint, pick_device
from close.errors import MissingError
from close.registry import unknown_name

__all__ = ["ContrastiveEncoder", "encoder_name", "fingerprint", "load_encoder", "pick_device"]

_FORMS = "mini, open_clip:NAME/TAG, open_clip:NAME@CHECKPOINT, hf:ORG/MODEL, or a local directory"


def encoder_name(reference: str) -> str:
    """A reference as tables and runs store it: places on this machine made absolute."""
    scheme, _, rest = reference.partition(":")
    head, at, checkpoint = rest.partition("@")
    if scheme == "open_clip" and at:
        return f"open_clip:{head}@{Path(checkpoint).resolve()}"
    if scheme in ("open_clip", "hf") and rest and Path(rest).is_dir():
        return f"{scheme}:{Path(rest).resolve()}"
    if reference not in ("", "mini") and Path(reference).is_dir():
        return str(Path(reference).resolve())
    return reference


def load_encoder(
    reference: str, *, device: str | torch.device | None = None, precision: str = "auto"
) -> ContrastiveEncoder:
    """The encoder that a reference names.

    Args:
        reference: `mini` (embedded), `open_clip:ViT-L-14/openai`, `open_clip:ViT-L-14@path/to/checkpoint`,
            `hf:openai/clip-vit-large-patch14`, or a local directory of either library.
        device: without one, the accelerator if there is one.
        precision: fp32, bf16, fp16, or auto: bf16 for large models where the hardware multiplies it, else fp32.
    Raises:
        UnknownNameError: no such encoder, architecture or tag.
        MissingError: no such file or directory.
        WeightsError: weights are missing or do not fit; nothing is ever replaced by random weights.
    """
    from close.encoders.hf import load_transformers_encoder
    from close.encoders.openclip import OpenClipEncoder

    name = encoder_name(reference)
    scheme, _, rest = name.partition(":")
    if name == "mini":
        from close.mini import ENCODER_DIR

        return OpenClipEncoder(str(ENCODER_DIR), name=name, device=device, precision=precision)
    if scheme == "open_clip" and rest:
        return OpenClipEncoder(rest, name=name, device=device, precision=precision)
    if scheme == "hf" and rest:
        return load_transformers_encoder(rest, name=name, device=device, precision=precision)
    path = Path(name)
    if name and path.is_dir():
        if (path / "open_clip_config.json").is_file():
            return OpenClipEncoder(name, name=name, device=device, precision=precision)
        if (path / "config.json").is_file():
            return load_transformers_encoder(name, name=name, device=device, precision=precision)
        raise MissingError(f"encoder {reference}: neither open_clip_config.json nor config.json is in that directory")
    if "/" in reference and scheme == reference:
        raise MissingError(f"encoder {reference}: no such directory (an encoder is {_FORMS})")
    raise unknown_name(f"encoder (expected {_FORMS})", reference, ["mini", "open_clip:", "hf:"])
