"""The mini sound world's captions.

A caption tells a part: one to three events, each with its pitch 60 %, its rhythm 50 %, its loudness 50 % (a medium one is never
told: 35 % in all) and its time 20 % of the time, and the background 40 %. Which events are told follows what strikes the ear:
loud and early ones come more often. Half of the captions of several events tell them in order of time, and say so ("then").
"""

from __future__ import annotations

import math
import random

from close.mini.grammar import Grammar, call, join, with_article
from close.mini.sound.scene import LOUDNESSES, PITCHES, RHYTHMS, TIMES, VOICES, Event, SoundScene

__all__ = ["GRAMMAR", "STYLES", "WORDS", "captions"]

STYLES = ("plain",)
WORDS: dict[str, tuple[str, ...]] = {  # the usual word first
    "flute": ("flute",),
    "organ": ("organ",),
    "buzzer": ("buzzer", "buzzing"),
    "trumpet": ("trumpet", "horn"),
    "bell": ("bell", "chime"),
    "siren": ("siren", "alarm"),
    "bird": ("bird", "chirp"),
    "rattle": ("rattle", "shaker"),
    "deep": ("deep",),
    "low": ("low",),
    "high": ("high",),
    "shrill": ("shrill",),
    "long": ("long", "steady"),
    "double": ("double", "twofold"),
    "rapid": ("rapid", "fast"),
    "soft": ("soft", "faint", "quiet"),
    "loud": ("loud", "noisy"),
}
BACKGROUND_PHRASES: dict[str, tuple[str, ...]] = {
    "rain": ("in the rain", "while it rains"),
    "wind": ("in the wind", "as wind blows"),
    "sea": ("by the sea", "with waves"),
    "fire": ("by a fire", "as fire crackles"),
    "engine": ("near an engine", "over a motor"),
    "quiet": ("in a silent room", "in silence"),
}
_BACKGROUND_WORDS = {
    "rain": "rain", "rains": "rain", "wind": "wind", "sea": "sea", "waves": "sea", "fire": "fire", "engine": "engine",
    "motor": "engine", "silent": "quiet", "silence": "quiet",
}  # fmt: skip
OPENINGS = ("", "", "", "there is ", "the sound of ")
JOINTS = (" and ", " and ", " with ")
THEN = (" then ", " followed by ", " and then ")
TIME_PHRASES = {"beginning": "at the beginning", "middle": "in the middle", "end": "at the end"}
GRAMMAR = Grammar(
    things=VOICES,
    attributes={"pitch": tuple(PITCHES), "rhythm": tuple(RHYTHMS), "loudness": tuple(LOUDNESSES)},
    places=TIMES,
    words=WORDS,
    grounds=_BACKGROUND_WORDS,
    afterwards=("then", "followed"),
    name="voice",
    ground="background",
    place="time",
    untold=("medium",),
)


def captions(scene: SoundScene, n: int = 5, rng: random.Random | None = None, *, style: str = "plain") -> list[str]:
    """Write `n` captions of `scene`, each telling a part of it; without `rng` the scene's own seed is used.

    Raises:
        ValueError: `style` is not one of `STYLES`.
    """
    if style not in STYLES:
        raise ValueError(f"style {style!r}: expected one of {', '.join(STYLES)}")
    rng = rng or random.Random(f"captions {scene.id} {scene.texture}")
    return [_caption(scene, rng) for _ in range(n)]


def _caption(scene: SoundScene, rng: random.Random) -> str:
    count = min(len(scene.events), rng.choices((1, 2, 3), weights=(35, 42, 23))[0])
    told = sorted(scene.events, key=lambda event: -_salience(event) + math.log(rng.expovariate(1)))[:count]
    if count > 1 and rng.random() < 0.5:
        told.sort(key=lambda event: event.slot)
        text = rng.choice(THEN).join(_noun_phrase(event, rng) for event in told)
    else:
        text = join([_noun_phrase(event, rng) for event in told], JOINTS, rng)
    text = rng.choice(OPENINGS) + text
    if rng.random() < 0.4:
        background = rng.choice(BACKGROUND_PHRASES[scene.background])
        text = f"{background}, {text}" if rng.random() < 0.2 else f"{text} {background}"
    return text


def _salience(event: Event) -> float:
    """Log-weight with which an event is picked for a caption (Plackett-Luce, sampled by the Gumbel trick)."""
    return {"soft": 0.0, "medium": 1.0, "loud": 2.0}[event.loudness] + 0.5 * (2 - event.slot)


def _noun_phrase(event: Event, rng: random.Random) -> str:
    """ "a loud deep double bell at the end": the event with a part of its attributes."""
    words = [call(WORDS, event.voice, rng)]
    for value, share in ((event.rhythm, 0.5), (event.pitch, 0.6), (event.loudness, 0.5)):
        if value not in GRAMMAR.untold and rng.random() < share:
            words.insert(0, call(WORDS, value, rng))
    time = next(name for name, slots in TIMES.items() if event.slot in slots)
    return with_article(words) + (f" {TIME_PHRASES[time]}" if rng.random() < 0.2 else "")
