"""What a recording of the mini sound world holds: two or three events before a background, and what no caption tells.

Laws of the world, on which exact truth rests: a scene has 2 or 3 events; no two share a voice or a third of the time; each has
one pitch, one rhythm and one loudness; there is one background.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from close.mini.splits import SPLITS, drawn

__all__ = [
    "BACKGROUNDS",
    "LOUDNESSES",
    "MAX_EVENTS",
    "MIN_EVENTS",
    "PITCHES",
    "RHYTHMS",
    "SLOTS",
    "TIMES",
    "VOICES",
    "Event",
    "EventFacts",
    "SoundFacts",
    "SoundScene",
    "facts",
    "sample_scene",
    "scenes",
]

VOICES = ("flute", "organ", "buzzer", "trumpet", "bell", "siren", "bird", "rattle")
PITCHES = {"deep": 130.0, "low": 270.0, "high": 560.0, "shrill": 1160.0}
"""Pitch to the mean of its frequencies in Hz; the jitter stays within 19 % (three semitones), so that pitches never meet."""
RHYTHMS = {"long": 1, "double": 2, "rapid": 5}
"""Rhythm to the number of strokes."""
LOUDNESSES = {"soft": 0.06, "medium": 0.16, "loud": 0.42}
"""Loudness to root mean square while it sounds; gain and jitter together stay within 3 dB of 8.4, so that they never meet."""
BACKGROUNDS = ("rain", "wind", "sea", "fire", "engine", "quiet")
SLOTS = 3
TIMES = {"beginning": frozenset({0}), "middle": frozenset({1}), "end": frozenset({2})}
"""What each word of time says: the thirds that it allows."""
MIN_EVENTS, MAX_EVENTS = 2, 3
_STREAMS = {split: f"sound-{split}" for split in SPLITS}
"""The random stream of each split."""


class EventFacts(TypedDict):
    """The tellable attributes of one event; `cell` is its third of the time, 0, 1 or 2."""

    voice: str
    pitch: str
    rhythm: str
    loudness: str
    cell: int


class SoundFacts(TypedDict):
    """The tellable truth of a scene, as it stands in `eval.jsonl`; `things` are its events, in order of time."""

    world: str
    background: str
    things: list[EventFacts]


@dataclass(frozen=True)
class Event:
    """One event: voice, pitch, rhythm, loudness and third can be told; start (s), length (s), Hz and level cannot."""

    voice: str
    pitch: str
    rhythm: str
    loudness: str
    slot: int
    start: float
    length: float
    hertz: float
    level: float


@dataclass(frozen=True)
class SoundScene:
    """Events in order of time, before a background; the gain and the seed of the noise are never told."""

    id: str
    events: tuple[Event, ...]
    background: str
    gain: float
    texture: int


def sample_scene(rng: random.Random, id: str = "") -> SoundScene:
    """Draw one scene from `rng`; `id` only names it."""
    count = rng.choice(range(MIN_EVENTS, MAX_EVENTS + 1))
    voices, slots = rng.sample(VOICES, count), sorted(rng.sample(range(SLOTS), count))
    return SoundScene(
        id=id,
        events=tuple(_sample_event(rng, voice, slot) for voice, slot in zip(voices, slots, strict=True)),
        background=rng.choice(BACKGROUNDS),
        gain=rng.uniform(0.85, 1.15),
        texture=rng.getrandbits(32),
    )


def _sample_event(rng: random.Random, voice: str, slot: int) -> Event:
    pitch, loudness = rng.choice(list(PITCHES)), rng.choices(list(LOUDNESSES), weights=(35, 30, 35))[0]
    return Event(
        voice=voice,
        pitch=pitch,
        rhythm=rng.choice(list(RHYTHMS)),
        loudness=loudness,
        slot=slot,
        start=0.06 + slot * 1.04 + rng.uniform(0, 0.12),
        length=rng.uniform(0.82, 0.94),
        hertz=PITCHES[pitch] * 2 ** rng.uniform(-0.25, 0.25),
        level=LOUDNESSES[loudness] * rng.uniform(0.88, 1.12),
    )


def scenes(split: str, count: int, seed: int = 0) -> Iterator[SoundScene]:
    """Yield the first `count` scenes of a split; see `close.mini.splits.drawn`."""
    return drawn(split, count, seed, _STREAMS, sample_scene)


def facts(scene: SoundScene) -> SoundFacts:
    """The tellable truth of `scene`, ready for JSON."""
    things: list[EventFacts] = [
        {
            "voice": event.voice,
            "pitch": event.pitch,
            "rhythm": event.rhythm,
            "loudness": event.loudness,
            "cell": event.slot,
        }
        for event in scene.events
    ]
    return {"world": "sound", "background": scene.background, "things": things}
