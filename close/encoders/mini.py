"""The encoders that the package carries, one for each mini world."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from close.encoders.base import ENCODERS
from close.encoders.openclip import OpenClipEncoder
from close.encoders.sounds import SOUND_SUFFIXES, heard, sound_windows
from close.mini import ENCODER_DIR, WORLDS
from close.mini.sound.mel import mel
from close.mini.sound.synthesis import RATE, SECONDS

__all__ = ["MiniEncoder", "MiniSoundEncoder"]


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


@ENCODERS.register("mini-sound")
class MiniSoundEncoder(OpenClipEncoder):
    """open_clip's own model, trained on the mini sound world: its picture is the mel spectrogram of a recording.

    It hears 3.2 seconds at 8,000 samples a second; longer recordings are the mean of windows.
    """

    form = "mini-sound"
    marker = None
    items = "recordings"
    item_suffixes = SOUND_SUFFIXES

    @classmethod
    def load(
        cls, reference: str, *, name: str, device: str | torch.device | None = None, precision: str = "auto"
    ) -> OpenClipEncoder:
        """The embedded weights; there is nothing to choose."""
        return cls(str(WORLDS["sound"].folder / "encoder"), name=name, device=device, precision=precision)

    def open(self, item: Any) -> Any:
        """(samples,) float32 mono, 8,000 a second."""
        return heard(item, RATE, self.tell_once)

    def prepare(self, item: Any) -> dict[str, Tensor]:
        """(k, 3, 64, 64): the mel spectrogram of each window, from -1 to 1, three times."""
        seen = np.stack([mel(window) for window in sound_windows(item, int(RATE * SECONDS))])
        return {"pixels": torch.from_numpy(seen).float()[:, None].expand(-1, 3, -1, -1) / 127.5 - 1}
