"""Contrastive encoders: a text tower and a second tower ("image") in one space, frozen, outside the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from close.encoders.base import ENCODERS, ContrastiveEncoder
from close.encoders.devices import pick_device
from close.encoders.hf import TransformersEncoder
from close.encoders.identity import fingerprint
from close.encoders.int8 import in_int8
from close.encoders.mini import MiniEncoder, MiniSoundEncoder
from close.encoders.openclip import OpenClipEncoder
from close.encoders.st import SentenceTransformersEncoder
from close.errors import MissingError, RecipeError, shown
from close.fast.precision import INT8
from close.io.places import moved_reference
from close.registry import unknown_name

__all__ = [
    "ENCODERS",
    "ContrastiveEncoder",
    "MiniEncoder",
    "MiniSoundEncoder",
    "OpenClipEncoder",
    "SentenceTransformersEncoder",
    "TransformersEncoder",
    "as_encoder",
    "encoder_name",
    "fingerprint",
    "load_encoder",
    "pick_device",
]


def encoder_name(reference: str) -> str:
    """A reference as tables and runs store it: places on this machine made absolute."""
    return moved_reference(reference, os.path.realpath)


def as_encoder(encoder: ContrastiveEncoder | str | Path) -> ContrastiveEncoder:
    """A loaded encoder as it is, or that which a reference names."""
    return encoder if isinstance(encoder, ContrastiveEncoder) else load_encoder(encoder)


def load_encoder(
    reference: str | Path, *, device: str | torch.device | None = None, precision: str = "auto"
) -> ContrastiveEncoder:
    """The encoder that a reference names; torch's generator on the CPU is left as it was.

    Args:
        reference: `mini` or `mini-sound` (embedded), `open_clip:ViT-L-14/openai`,
            `open_clip:ViT-L-14@path/to/checkpoint`, `hf:openai/clip-vit-large-patch14`,
            `st:sentence-transformers/clip-ViT-B-32`, or a local directory of either library.
        device: without one, the accelerator if there is one.
        precision: fp32, bf16, fp16, int8 (products only, on the CPU), or auto: bf16 for large models where the hardware
            multiplies it, else fp32.
    Raises:
        UnknownNameError: no such encoder, architecture or tag.
        MissingError: no such file or directory.
        WeightsError: weights are missing or do not fit; nothing is ever replaced by random weights.
        RecipeError: no such device or precision here, or what is given is no name.
    """
    if not isinstance(reference, (str, Path)):
        raise RecipeError(f"an encoder is a name (mini, open_clip:…, hf:…) or a directory, not {shown(reference)}")
    with torch.random.fork_rng(devices=[]):  # libraries draw weights before they read the file's
        encoder = _load(str(reference), device, precision)
    return in_int8(encoder) if precision == INT8 else encoder


def _load(reference: str, device: str | torch.device | None, precision: str) -> ContrastiveEncoder:
    name = encoder_name(reference)
    word, colon, rest = name.partition(":")
    settings: Any = {"name": name, "device": device, "precision": precision}
    if word in ENCODERS and bool(rest) == (":" in ENCODERS[word].form):
        return _of_family(ENCODERS[word], rest, settings)
    kinds = [kind for _, kind in ENCODERS.items()]
    markers = {kind.marker: kind for kind in kinds if kind.marker}
    if name and Path(name).is_dir():
        for marker in sorted(markers, key=len, reverse=True):  # "config.json" last: others have one too
            if (Path(name) / marker).is_file():
                return _of_family(markers[marker], name, settings)
        raise MissingError(f"encoder {reference}: none of {', '.join(sorted(markers))} is in that directory")
    forms = ", ".join(kind.form for kind in kinds) + ", or a local directory"
    if "/" in reference and not colon:
        raise MissingError(f"encoder {reference}: no such directory (an encoder is {forms})")
    known = [kind.form.partition(":")[0] + ":" * (":" in kind.form) for kind in kinds]
    raise unknown_name(f"encoder (expected {forms})", reference, known)


def _of_family(kind: type[ContrastiveEncoder], reference: str, settings: dict[str, Any]) -> ContrastiveEncoder:
    """Loaded, and known by the class that did: `load` may give one of another."""
    encoder = kind.load(reference, **settings)
    encoder.family = kind
    return encoder
