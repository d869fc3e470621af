"""An encoder whose products are in 8 bits, and what that costs it."""

from __future__ import annotations

import logging

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from close.encoders.base import ContrastiveEncoder
from close.encoders.identity import taken
from close.errors import RecipeError
from close.fast.packing import pack
from close.fast.precision import INT8
from close.fast.probe import why_off

__all__ = ["ENOUGH", "in_int8"]

_log = logging.getLogger(__name__)

ENOUGH = 0.999
"""Cosine with the features of before, below which it is told."""
TEXTS = (
    "a dog",
    "two people ride bicycles along a river in the evening",
    "Close-up of a plate with pasta, tomatoes and basil on a wooden table.",
    "an old photograph of a railway station, black and white, with many passengers waiting under the clock",
)


def in_int8(encoder: ContrastiveEncoder) -> ContrastiveEncoder:
    """The same encoder, of which the linear layers of both towers multiply in 8 bits from now on (`close.fast.int8`).

    Texts, and pictures if it takes them, are embedded before and after; the least cosines are kept as `int8_cosines`, and told
    where one is below `ENOUGH`.

    Raises:
        RecipeError: it is not on the CPU, or this machine or `CLOSE_FAST=0` does not allow it.
    """
    if encoder.device.type != "cpu":
        raise RecipeError(
            f"precision int8 is for the CPU, and encoder {encoder.name} is on {encoder.device}: take bf16"
        )
    for path in ("packed_layers", INT8):
        if why := why_off(path):
            raise RecipeError(f"precision int8 can't be taken here: {why}")
    before = _features(encoder)
    with taken(encoder.model, type(encoder).__qualname__):
        pack(encoder.model, int8=True)
    encoder.int8_cosines = {
        what: F.cosine_similarity(now, before[what]).min().item() for what, now in _features(encoder).items()
    }
    if (least := min(encoder.int8_cosines.values())) < ENOUGH:
        _log.warning(
            "encoder %s: in int8 its features have a cosine of %.4f with those in %s: not for this encoder",
            encoder.name, least, encoder.precision,
        )  # fmt: skip
    encoder.precision = INT8
    return encoder


def _features(encoder: ContrastiveEncoder) -> dict[str, Tensor]:
    found = {"texts": encoder.text_features(TEXTS)}
    if encoder.items == "images":
        rng = np.random.default_rng(0)
        grains = (rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for size in (2, 5, 12, 40))
        pictures = [Image.fromarray(grain).resize((320, 320), Image.Resampling.BICUBIC) for grain in grains]
        found["images"] = encoder.image_features(pictures)[0]
    return found
