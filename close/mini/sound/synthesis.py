"""Scenes to recordings: 3.2 seconds at 8,000 samples a second."""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray

from close.mini.sound.scene import RHYTHMS, Event, SoundScene

__all__ = ["RATE", "SECONDS", "samples", "wav"]

RATE = 8_000
SECONDS = 3.2
_LENGTH = int(RATE * SECONDS)
Samples = NDArray[np.float64]


def wav(scene: SoundScene) -> bytes:
    """The recording of `scene` as a WAV file of 16 bits; the same scene gives the same bytes."""
    numbers = (samples(scene) * 32767).round().astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(numbers.tobytes())
    return file.getvalue()


def samples(scene: SoundScene) -> NDArray[np.float32]:
    """The recording of `scene`: (25,600) numbers between -1 and 1."""
    rng = np.random.default_rng(scene.texture)
    sound = _background(scene.background, rng)
    for event in scene.events:
        start = int(event.start * RATE)
        voiced = _event(event, rng)[: _LENGTH - start]
        sound[start : start + len(voiced)] += voiced
    return np.tanh(scene.gain * sound).astype(np.float32)  # rather bent than clipped where voices and background add up


def _event(event: Event, rng: np.random.Generator) -> Samples:
    """Strokes of equal length with silence between them, at the event's root mean square while they sound."""
    strokes = RHYTHMS[event.rhythm]
    length = int(event.length * RATE)
    each = int(length / strokes * (1.0 if strokes == 1 else 0.62))
    out = np.zeros(length)
    for number in range(strokes):
        stroke = _stroke(event.voice, event.hertz, each, rng)
        start = number * length // strokes
        out[start : start + each] = stroke * event.level / np.sqrt(np.mean(stroke**2))
    return out


def _stroke(voice: str, hertz: float, count: int, rng: np.random.Generator) -> Samples:
    """One stroke of a voice: `count` numbers, of any scale."""
    time = np.arange(count) / RATE
    turn = 2 * np.pi * hertz * time
    if voice == "bell":  # a bar's partials, dying away
        sound = sum(
            np.sin(ratio * turn) * np.exp(-fall * time) / part for part, (ratio, fall) in enumerate(_PARTIALS, 1)
        )
        return np.asarray(sound) * np.minimum(1, time * 400)
    if voice == "rattle":  # noise in a narrow band about the pitch, shaken
        return _band(rng.normal(size=count), 0.8 * hertz, 1.25 * hertz) * (0.3 + (np.sin(2 * np.pi * 31 * time) > 0))
    if voice == "siren":  # up and down by a fifth
        turn = 2 * np.pi * np.cumsum(hertz * 2 ** (0.5 * np.sin(2 * np.pi * 5 * time))) / RATE
    if voice == "bird":  # sweeps upward, over and over
        turn = 2 * np.pi * np.cumsum(hertz * (1 + 1.2 * ((14 * time) % 1))) / RATE
    sound = sum(level * np.sin(part * turn) for part, level in _HARMONICS[voice] if part * hertz < 0.45 * RATE)
    fade = min(count // 4, RATE // 50)
    edge = np.minimum(1, np.minimum(np.arange(count), np.arange(count)[::-1]) / fade)
    return np.asarray(sound) * edge


_PARTIALS = ((1, 3.0), (2.76, 5.0), (5.4, 8.0))
_HARMONICS: dict[str, list[tuple[int, float]]] = {
    "flute": [(1, 1.0), (2, 0.08)],
    "organ": [(1, 1.0), (2, 0.9), (4, 0.8), (8, 0.7)],
    "buzzer": [(part, 1 / part**0.5) for part in range(1, 30, 2)],
    "trumpet": [(part, part**0.5 * np.exp(-part / 5)) for part in range(1, 24)],
    "siren": [(1, 1.0), (2, 0.5), (3, 0.3)],
    "bird": [(1, 1.0)],
}
"""Voice to the number and level of its harmonics."""


def _background(background: str, rng: np.random.Generator) -> Samples:
    time = np.arange(_LENGTH) / RATE
    noise, phase = rng.normal(size=_LENGTH), rng.uniform(0, 2 * np.pi)
    if background == "rain":
        return 0.02 * _band(noise, 1500, 4000)
    if background == "wind":
        return 0.05 * _band(noise, 40, 500) * (1 + 0.7 * np.sin(2 * np.pi * 0.6 * time + phase))
    if background == "sea":
        return 0.035 * _band(noise, 100, 2500) * (1 + np.sin(2 * np.pi * 1.1 * time + phase)) ** 2 / 2
    if background == "fire":
        return 0.25 * np.convolve(noise * (rng.random(_LENGTH) < 0.002), np.exp(-np.arange(60) / 12))[:_LENGTH]
    if background == "engine":
        return 0.05 * _band(noise, 60, 1200) * (1 + np.sign(np.sin(2 * np.pi * 24 * time + phase)))
    return 0.001 * noise


def _band(noise: Samples, low: float, high: float) -> Samples:
    """Noise between two frequencies, at a root mean square of 1."""
    spectrum, hertz = np.fft.rfft(noise), np.fft.rfftfreq(len(noise), 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0
    kept = np.fft.irfft(spectrum, len(noise))
    return kept / (np.sqrt(np.mean(kept**2)) or 1)
