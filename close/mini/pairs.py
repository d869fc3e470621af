"""Statements about two scenes, true or false: exactly of the scenes, and of what one caption of each tells."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from close.mini.entailment import judge
from close.mini.grammar import with_article
from close.mini.language import GROUND_PHRASES, captions, claims, is_true, place_phrase
from close.mini.scene import COLOURS, GROUNDS, MAX_THINGS, MIN_THINGS, PLACES, SHAPES, Scene, facts

__all__ = ["KINDS", "Statement", "pairs", "partners", "truth"]

KINDS = {"both": 24, "one": 20, "none": 10, "side": 16, "sides": 12, "ground": 8, "count": 10}
"""Kinds of statements, and how often each comes."""
_NUMBERS = ("zero", "one", "two", "three", "four")
_TRIES = 15
_NEAR = 8
"""A scene's partner is the first of so many after it whose caption names a thing that its own names too."""

Eye = Callable[[str | int], bool | None]
"""What is known of one picture: whether "there is a red star" holds, or a number of shapes is right; None: it is not known."""


@dataclass(frozen=True)
class Statement:
    """`truth` is that of the pictures; `told`, whether the two captions decide it. `kind` is one of `KINDS`."""

    text: str
    truth: bool
    told: bool
    kind: str
    captions: tuple[str, str]


class _Form(NamedTuple):
    """A statement, what it says of the left and of the right picture, and how the two are put together (Kleene's logic)."""

    text: str
    left: str | int
    right: str | int
    join: Callable[[bool | None, bool | None], bool | None]

    def value(self, left: Eye, right: Eye) -> bool | None:
        """By what is known of either picture."""
        return self.join(left(self.left), right(self.right))


def pairs(left: Scene, right: Scene, n: int = 2, rng: random.Random | None = None) -> list[Statement]:
    """Write `n` statements about two scenes, true and false in turn, most of them about what the captions tell.

    Without `rng` the scenes' own seeds are used. The captions are the first `n` of each scene.
    """
    rng = rng or random.Random(f"pairs {left.id} {left.texture} {right.id} {right.texture}")
    start, eyes = rng.random() < 0.5, (_seen(left), _seen(right))
    both = zip(captions(left, n), captions(right, n), strict=True)
    return [_statement(own, eyes, bool(index % 2) != start, rng) for index, own in enumerate(both)]


def partners(scenes: Sequence[Scene]) -> list[Scene]:
    """For each scene another one to be paired with; with one scene alone there is none.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(scenes) < 2:
        raise ValueError(f"{len(scenes)} scenes: expected at least 2 to make pairs of")
    named = [{claim.shape for claim in claims(captions(scene, 1)[0]) if claim.shape} for scene in scenes]
    found = []
    for place, shapes in enumerate(named):
        near = [(place + step) % len(scenes) for step in range(1, min(_NEAR, len(scenes) - 1) + 1)]
        found.append(scenes[next((other for other in near if shapes & named[other]), near[0])])
    return found


def truth(text: str, left: Scene, right: Scene) -> bool:
    """Whether a statement that `pairs` could write is true of two scenes.

    Raises:
        ValueError: it is none.
    """
    value = _read(text).value(_seen(left), _seen(right))
    assert value is not None  # of a scene all is known
    return value


def _seen(scene: Scene) -> Eye:
    known = facts(scene)
    return lambda said: (
        len(scene.things) == said if isinstance(said, int) else all(is_true(claim, known) for claim in claims(said))
    )


def _told(caption: str) -> Eye:
    return lambda said: (
        None
        if isinstance(said, int)
        else {"entailment": True, "contradiction": False, "neutral": None}[judge(caption, said)]
    )


def _statement(told: tuple[str, str], eyes: tuple[Eye, Eye], true: bool, rng: random.Random) -> Statement:
    """One that the captions decide, where a few tries find one; of a kind that can have this truth."""
    read = (_told(told[0]), _told(told[1]))
    while True:
        kind, spare = rng.choices(list(KINDS), weights=list(KINDS.values()))[0], None
        for form in (_propose(kind, told, rng) for _ in range(_TRIES)):
            if form.value(*eyes) is not true:
                continue
            if form.value(*read) is not None:
                return Statement(form.text, true, True, kind, told)
            spare = spare or form
        if spare:
            return Statement(spare.text, true, False, kind, told)


def _propose(kind: str, told: tuple[str, str], rng: random.Random) -> _Form:
    """One that may have the truth that is wanted: about what a caption says, or another value of it."""
    if kind == "ground":
        one, other = (rng.choice(GROUND_PHRASES[_ground(text, rng)]) for text in told)
        return _read(f"it is {one} in the left picture and {other} in the right picture")
    if kind == "count":
        left, right = (rng.randint(MIN_THINGS, MAX_THINGS) for _ in range(2))
        return _read(
            f"there are {_NUMBERS[left]} shapes in the left picture and {_NUMBERS[right]} in the right picture"
        )
    one, other = (_thing(text, rng) for text in (told if rng.random() < 0.5 else told[::-1]))
    if kind == "none":
        return _read(f"there is no {one.partition(' ')[2]} in any picture")
    where = {
        "both": "in both",
        "one": "in one picture, not in both",
        "side": f"in the {rng.choice(('left', 'right'))} picture",
        "sides": f"in the left picture and {other} in the right picture",
    }
    return _read(f"there is {one} {where[kind]}")


def _thing(caption: str, rng: random.Random) -> str:
    """ "a red star on the left": a thing that the caption tells, with a part of what is told, or one thing said otherwise."""
    said = sorted(claims(caption))
    shape = rng.choice([claim.shape for claim in said if claim.kind == "thing"])
    told: dict[str, str] = {claim.kind: claim.value for claim in said if claim.shape == shape and claim.kind != "thing"}
    kept = {kind: value for kind, value in told.items() if rng.random() < 0.7}
    if rng.random() < 0.5:
        kind = rng.choice(sorted(told) or ["colour"])
        values: dict[str, Sequence[str]] = {"colour": COLOURS, "size": ("small", "large"), "place": tuple(PLACES)}
        kept[kind] = rng.choice([value for value in values[kind] if value != told.get(kind)])
    shape = shape if kept or rng.random() < 0.7 else rng.choice(SHAPES)
    words = [kept[kind] for kind in ("size", "colour") if kind in kept] + [shape]
    place = f" {place_phrase(kept['place'])}" if "place" in kept else ""
    return f"{with_article(words)}{place}"


def _ground(caption: str, rng: random.Random) -> str:
    """What a caption tells, or any."""
    told = [claim.value for claim in claims(caption) if claim.kind == "ground"]
    return told[0] if told and rng.random() < 0.7 else rng.choice(GROUNDS)


def _read(text: str) -> _Form:
    """What a statement of this grammar says of two pictures."""
    if text.startswith("there is no ") and text.endswith(" in any picture"):
        thing = f"there is a {text.removeprefix('there is no ').removesuffix(' in any picture')}"
        return _Form(text, thing, thing, _neither)
    endings = {"in one picture, not in both": _differ, "in both": _and}
    endings |= {"in the left picture": _left, "in the right picture": _right}
    first, gap, second = text.removesuffix(" in the right picture").partition(" in the left picture and ")
    if gap and first.startswith("there are "):
        left, right = (_NUMBERS.index(words.split()[-1]) for words in (first.removesuffix(" shapes"), second))
        return _Form(text, left, right, _and)
    if gap:
        begins = "it is" if first.startswith("it is ") else "there is"
        return _Form(text, first, f"{begins} {second}", _and)
    for ending, join in endings.items():
        if text.startswith("there is ") and text.endswith(f" {ending}"):
            thing = text.removesuffix(f" {ending}")
            return _Form(text, thing, thing, join)
    raise ValueError(f"{text!r} is no statement about two pictures")


def _and(one: bool | None, other: bool | None) -> bool | None:
    if False in (one, other):
        return False
    return None if None in (one, other) else True


def _neither(one: bool | None, other: bool | None) -> bool | None:
    return _and(*(None if value is None else not value for value in (one, other)))


def _differ(one: bool | None, other: bool | None) -> bool | None:
    return None if None in (one, other) else one != other


def _left(one: bool | None, other: bool | None) -> bool | None:
    return one


def _right(one: bool | None, other: bool | None) -> bool | None:
    return other
