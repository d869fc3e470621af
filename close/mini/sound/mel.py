"""What the sound world's encoder sees of a recording: its mel spectrogram as a picture of 64 × 64."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from close.mini.sound.synthesis import RATE, SECONDS

__all__ = ["BANDS", "FRAMES", "mel"]

BANDS = FRAMES = 64
_HOP = int(RATE * SECONDS) // FRAMES
_WINDOW = 640
_LOWEST, _HIGHEST = 60.0, 4000.0
_FLOOR, _TOP = -6.0, 2.0
"""Logarithms to base 10 of the power that is black and of the one that is white."""


def mel(samples: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(64, 64): low bands below, time to the right, louder is brighter; of at most 3.2 seconds, silence behind shorter ones.

    Args:
        samples: (n,) numbers between -1 and 1, 8,000 a second; n at most 25,600.
    """
    padded = np.zeros(_HOP * (FRAMES - 1) + _WINDOW, np.float32)
    start = (_WINDOW - _HOP) // 2
    padded[start : start + len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), 1024)) ** 2
    level = (np.log10(_filters() @ power.T + 10**_FLOOR) - _FLOOR) / (_TOP - _FLOOR)
    return (255 * level[::-1]).clip(0, 255).round().astype(np.uint8)


@cache
def _filters() -> NDArray[np.float32]:
    """(64, 513): triangles between neighbours on the mel scale (2595 · log10(1 + f / 700)), each of sum 1."""
    edge = np.linspace(_mel(_LOWEST), _mel(_HIGHEST), BANDS + 2)
    hertz = 700 * (10 ** (edge / 2595) - 1)
    bins = np.fft.rfftfreq(1024, 1 / RATE)
    low, middle, high = (hertz[start : start + BANDS, None] for start in range(3))
    found = np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(0)
    return (found / found.sum(1, keepdims=True)).astype(np.float32)


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))
