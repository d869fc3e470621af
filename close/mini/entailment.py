"""Premise, hypothesis, label: decided exactly, by asking which worlds the premise leaves possible."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from close.mini.grammar import with_article
from close.mini.language import GROUND_PHRASES, UNSEEN, Claim, Kind, captions, claims, is_true, place_phrase
from close.mini.scene import CELLS, COLOURS, GROUNDS, MAX_THINGS, MIN_THINGS, PLACES, SHAPES, SIZES, Facts, Scene, facts

__all__ = ["LABELS", "Label", "Triple", "entailment", "judge"]

Label = Literal["entailment", "neutral", "contradiction"]
LABELS: tuple[Label, ...] = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Triple:
    """`label` is the truth given the premise's text alone; `picture_label` given the whole scene.

    They differ only for a neutral hypothesis that the picture decides and the premise does not.
    """

    premise: str
    hypothesis: str
    label: Label
    picture_label: Label


def entailment(scene: Scene, n: int = 3, rng: random.Random | None = None) -> list[Triple]:
    """Write `n` triples about `scene`, the labels in turn; without `rng` the scene's own seed is used."""
    rng = rng or random.Random(f"entailment {scene.id} {scene.texture}")
    start = rng.randrange(3)
    return [_triple(scene, LABELS[(start + index) % 3], rng) for index in range(n)]


def judge(premise: str, hypothesis: str) -> Label:
    """The label of `hypothesis` given `premise`: does it hold in every, in no, or in some of the worlds left possible?

    Both are read by `close.mini.language.claims`; the worlds obey the laws in `close.mini.scene`. What is unseen (a weight, an
    age) is never decided.
    """
    given, said = claims(premise), claims(hypothesis)
    if not _Worlds(given | said).exist():
        return "contradiction"
    if all(not any(worlds.exist() for worlds in _denials(given, claim)) for claim in said):
        return "entailment"
    return "neutral"


@dataclass
class _Worlds:
    """The worlds in which every one of `said` holds: allowed grounds, and colours, sizes and cells of each thing."""

    said: Iterable[Claim]
    grounds: set[str] = field(default_factory=lambda: set(GROUNDS))
    absent: set[str] = field(default_factory=set)
    things: dict[str, dict[str, set]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for claim in self.said:
            if claim.kind == "ground":
                self.grounds &= {claim.value}
            elif claim == Claim("thing", "absent", claim.shape):
                self.absent.add(claim.shape)
            elif claim.shape:
                self._allow(claim)

    def _allow(self, claim: Claim) -> None:
        thing = self.thing(claim.shape)
        if claim.kind in thing:
            thing[claim.kind] &= PLACES[claim.value] if claim.kind == "place" else {claim.value}

    def thing(self, shape: str) -> dict[str, set]:
        """The allowed values of a thing, which from now on is there."""
        return self.things.setdefault(shape, {"colour": set(COLOURS), "size": set(SIZES), "place": set(CELLS)})

    def exist(self) -> bool:
        """Whether at least one world obeys the claims and the laws."""
        return (
            bool(self.grounds)
            and not self.absent & self.things.keys()
            and len(self.things) <= MAX_THINGS
            and len(SHAPES) - len(self.absent) >= MIN_THINGS
            and all(values for thing in self.things.values() for values in thing.values())
            and _have_own_cells([thing["place"] for thing in self.things.values()])
        )


def _denials(given: frozenset[Claim], claim: Claim) -> list[_Worlds]:
    """The worlds in which `given` holds and `claim` does not, as a union."""
    if claim.kind == "unseen":
        return [_Worlds(given)]
    if claim.kind == "ground":
        worlds = _Worlds(given)
        worlds.grounds.discard(claim.value)
        return [worlds]
    if claim.kind == "thing":
        return [_Worlds(given | {Claim("thing", "present" if claim.value == "absent" else "absent", claim.shape)})]
    different = _Worlds(given)
    different.thing(claim.shape)[claim.kind] -= PLACES[claim.value] if claim.kind == "place" else {claim.value}
    return [different, _Worlds(given | {Claim("thing", "absent", claim.shape)})]


def _have_own_cells(allowed: list[set]) -> bool:
    """Whether each thing can have a cell for itself."""
    if not allowed:
        return True
    return any(_have_own_cells([other - {cell} for other in allowed[1:]]) for cell in allowed[0])


def _triple(scene: Scene, label: Label, rng: random.Random) -> Triple:
    while True:
        premise = captions(scene, 1, rng)[0]
        for _ in range(20):
            hypothesis = _propose(premise, label, rng)
            if judge(premise, hypothesis) == label:
                return Triple(premise, hypothesis, label, _given_picture(hypothesis, label, facts(scene)))


def _propose(premise: str, label: Label, rng: random.Random) -> str:
    """A hypothesis that may have the label: about what the premise says, another value of it, or something else."""
    given = sorted(claims(premise))
    seen = [claim.shape for claim in given if claim.kind == "thing"]
    if label == "neutral" and rng.random() < 0.6:
        return f"the {rng.choice(seen)} is {rng.choice(UNSEEN)}"
    if label == "entailment":
        return _say(rng.choice(given), rng)
    shape = rng.choice(seen if rng.random() < 0.7 else SHAPES)
    kinds: tuple[Kind, ...] = ("thing", "colour", "size", "place", "ground")
    kind = rng.choice(kinds)
    values = {
        "thing": ("present", "absent"),
        "colour": COLOURS,
        "size": ("small", "large"),
        "place": PLACES,
        "ground": GROUNDS,
    }
    return _say(Claim(kind, rng.choice(tuple(values[kind])), "" if kind == "ground" else shape), rng)


def _say(claim: Claim, rng: random.Random) -> str:
    if claim.kind == "ground":
        return rng.choice((f"the ground is {claim.value}", f"it is {rng.choice(GROUND_PHRASES[claim.value])}"))
    thing = with_article([claim.shape])
    if claim.kind == "thing":
        return f"there is no {claim.shape}" if claim.value == "absent" else f"there is {thing}"
    if claim.kind == "place":
        where = place_phrase(claim.value)
        return rng.choice((f"the {claim.shape} is {where}", f"there is {thing} {where}"))
    told = with_article([claim.value, claim.shape])
    return rng.choice((f"the {claim.shape} is {claim.value}", f"there is {told}"))


def _given_picture(hypothesis: str, label: Label, truth: Facts) -> Label:
    said = claims(hypothesis)
    if label != "neutral" or any(claim.kind == "unseen" for claim in said):
        return label
    return "entailment" if all(is_true(claim, truth) for claim in said) else "contradiction"
