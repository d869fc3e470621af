"""The encoder that the package carries."""

from __future__ import annotations

import torch

from close.encoders.base import ENCODERS
from close.encoders.openclip import OpenClipEncoder
from close.mini import ENCODER_DIR

__all__ = ["MiniEncoder"]


@ENCODERS.register("mini")
class MiniEncoder(OpenClipEncoder):
    """open_clip's own model, trained on the mini world (experiments/mini_world)."""

    form = "mini"
    marker = None  # its folder is the package's own

    @classmethod
    def load(
        cls, reference: str, *, name: str, device: str | torch.device | None = None, precision: str = "auto"
    ) -> OpenClipEncoder:
        """The embedded weights; there is nothing to choose."""
        return OpenClipEncoder(str(ENCODER_DIR), name=name, device=device, precision=precision)
