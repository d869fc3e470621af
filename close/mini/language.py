"""The mini world's captions, and the exact reading of what a text claims.

A caption tells a part, in one of two styles, which are two domains: other sentences, and other things told.

- "plain": one to three things, each with its colour 80 %, its size 50 % (a medium size is never told: 35 % in all) and its place
  30 % of the time, and the ground 40 % of the time. Which things are told follows what strikes the eye: large and central ones
  come more often and earlier.
- "report": sentences, the ground first (70 %), then one to three things whatever they look like, in reading order, each with its
  place 80 %, its size 50 % (medium too) and its colour 30 % of the time.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import Literal, get_args

from close.mini.grammar import Claim, Grammar, call, join, with_article
from close.mini.scene import COLOURS, PLACES, SHAPES, SIZES, Facts, Scene, Thing

__all__ = [
    "GRAMMAR",
    "GROUND_PHRASES",
    "STYLES",
    "UNSEEN",
    "WORDS",
    "Claim",
    "Kind",
    "Style",
    "captions",
    "claims",
    "is_true",
    "place_phrase",
    "salience",
]

Kind = Literal["thing", "colour", "size", "place", "ground", "unseen"]
Style = Literal["plain", "report"]
STYLES: tuple[Style, ...] = get_args(Style)


WORDS: dict[str, tuple[str, ...]] = {  # the usual word first
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "cross": ("cross", "plus"),
    "ring": ("ring", "hoop"),
    "diamond": ("diamond",),
    "moon": ("moon", "crescent"),
    "arrow": ("arrow",),
    "small": ("small", "tiny", "little"),
    "large": ("large", "big"),
}
"""How a shape or size may be called."""
GROUND_PHRASES: dict[str, tuple[str, ...]] = {
    "grass": ("on the grass", "on a lawn"),
    "sand": ("on the sand", "on a beach"),
    "snow": ("in the snow", "on snow"),
    "water": ("on the water", "on a lake"),
    "wood": ("on a wooden floor", "on wood"),
    "stone": ("on a stone floor", "on stones"),
}
OPENINGS = ("", "", "", "there is ", "a picture of ")
JOINTS = (" and ", " and ", " with ")
_PLACE_PHRASES = {
    "left": "on the {}",
    "right": "on the {}",
    "top": "at the {}",
    "bottom": "at the {}",
    "middle": "in the {}",
}
_GROUND_WORDS = {
    "grass": "grass", "lawn": "grass", "sand": "sand", "beach": "sand", "snow": "snow", "water": "water", "lake": "water",
    "wood": "wood", "wooden": "wood", "stone": "stone", "stones": "stone",
}  # fmt: skip
UNSEEN = ("heavy", "old", "new", "expensive", "cheap", "warm", "cold", "soft", "hard")
"""What a thing may be, and neither a picture nor a caption ever tells."""


def captions(scene: Scene, n: int = 5, rng: random.Random | None = None, *, style: Style = "plain") -> list[str]:
    """Write `n` captions of `scene`, each telling a part of it; without `rng` the scene's own seed is used.

    Raises:
        ValueError: `style` is not one of `STYLES`.
    """
    if style not in STYLES:
        raise ValueError(f"style {style!r}: expected one of {', '.join(STYLES)}")
    rng = rng or random.Random(f"captions {scene.id} {scene.texture}" + (" report" if style == "report" else ""))
    write = _report if style == "report" else _caption
    return [write(scene, rng) for _ in range(n)]


def _report(scene: Scene, rng: random.Random) -> str:
    """ "the ground is snow. there is a large star in the top left corner. the ring is blue"."""
    told = sorted(rng.sample(scene.things, _count(scene, rng)), key=lambda thing: thing.cell)
    sentences = [_sentence(thing, rng) for thing in told]
    if rng.random() < 0.7:
        phrase = rng.choice(GROUND_PHRASES[scene.ground])
        sentences.insert(0, rng.choice((f"the ground is {scene.ground}", f"it is {phrase}")))
    return ". ".join(sentences)


def _sentence(thing: Thing, rng: random.Random) -> str:
    said = [thing.size] if rng.random() < 0.5 else []
    said += [thing.colour] if rng.random() < 0.3 else []
    if rng.random() < 0.8:
        name, place = with_article([*said, thing.shape]), place_phrase(choose_place(thing.cell, rng))
        return rng.choice((f"there is {name} {place}", f"{name} lies {place}"))
    if len(said) == 1 and rng.random() < 0.5:
        return f"the {thing.shape} is {said[0]}"
    return f"there is {with_article([*said, thing.shape])}"


def _caption(scene: Scene, rng: random.Random) -> str:
    count = _count(scene, rng)
    order = sorted(scene.things, key=lambda thing: -salience(thing) + math.log(rng.expovariate(1)))
    phrases = [noun_phrase(thing, rng) for thing in order[:count]]
    text = rng.choice(OPENINGS) + join(phrases, JOINTS, rng)
    if rng.random() < 0.4:
        ground = rng.choice(GROUND_PHRASES[scene.ground])
        text = f"{ground}, {text}" if rng.random() < 0.2 else f"{text} {ground}"
    return text


def _count(scene: Scene, rng: random.Random) -> int:
    """How many things a caption tells."""
    return min(len(scene.things), rng.choices((1, 2, 3), weights=(35, 42, 23))[0])


def salience(thing: Thing) -> float:
    """Log-weight with which a thing is picked for a caption (Plackett-Luce, sampled by the Gumbel trick)."""
    return {"small": 0.0, "medium": 1.0, "large": 2.0}[thing.size] + 0.7 * (
        2 - sum(abs(axis - 1) for axis in thing.cell)
    )


def noun_phrase(thing: Thing, rng: random.Random) -> str:
    """ "a large red star on the left": the thing with a part of its attributes."""
    words = [call(WORDS, thing.shape, rng)]
    if rng.random() < 0.8:
        words.insert(0, thing.colour)
    if thing.size != "medium" and rng.random() < 0.5:
        words.insert(0, call(WORDS, thing.size, rng))
    place = " " + place_phrase(choose_place(thing.cell, rng)) if rng.random() < 0.3 else ""
    return with_article(words) + place


def choose_place(cell: tuple[int, int], rng: random.Random) -> str:
    """A place word true of `cell`, most often the exact one; the cell at (1, 1) is "middle"."""
    true = [name for name, cells in PLACES.items() if cell in cells]
    exact = min(true, key=lambda name: len(PLACES[name]))
    return exact if rng.random() < 0.6 else rng.choice(true)


def place_phrase(place: str) -> str:
    """ "left" → "on the left", "top left" → "in the top left corner"."""
    return f"in the {place} corner" if " " in place else _PLACE_PHRASES[place].format(place)


GRAMMAR = Grammar(
    things=SHAPES,
    attributes={"colour": COLOURS, "size": tuple(SIZES)},
    places=PLACES,
    words=WORDS,
    grounds=_GROUND_WORDS,
    unseen=UNSEEN,
    untold=("medium",),
)


@lru_cache(maxsize=4096)
def claims(text: str) -> frozenset[Claim]:
    """What `text` claims (`Grammar.claims`)."""
    return GRAMMAR.claims(text)


def is_true(claim: Claim, facts: Facts) -> bool:
    """Whether `claim` holds in the scene with these `facts` (`Grammar.is_true`)."""
    return GRAMMAR.is_true(claim, facts)
