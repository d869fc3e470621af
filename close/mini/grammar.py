"""What the grammars of all mini worlds share: how a text is read into claims, which of them are true, how phrases are joined."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

__all__ = ["Claim", "Grammar", "call", "cell_of", "join", "with_article"]


@dataclass(frozen=True, order=True)
class Claim:
    """One atomic statement: `Claim("colour", "red", "star")` says that the star is red.

    `kind` "thing" has the value "present" (or "absent", said with "no"); "order" has the thing before as its value; the ground
    has no shape; "unseen" is what nothing shows, such as a weight.
    """

    kind: str
    value: str
    shape: str = ""


@dataclass(frozen=True)
class Grammar:
    """The words of a world, and where its facts hold what they say.

    Attributes:
        things: names of things; no two of a scene share one.
        attributes: kind to values, such as "colour" to all colours.
        places: what each place word says: the cells it allows. Two words may join ("top left").
        words: name of a thing or an attribute to the words that say it, the usual one first; without an entry, its own name.
        grounds: word to the ground that it says.
        unseen: what a thing may be said to be, and nothing shows.
        afterwards: words that put the next thing after the last one.
        name, ground, place: the kinds of claims of what a thing is, of the ground and of a thing's place; in the facts,
            `ground` is the key of the ground, and `name` is the key of a thing's name.
        untold: values that no caption tells.
    """

    things: Collection[str]
    attributes: Mapping[str, Collection[str]]
    places: Mapping[str, Collection[Any]]
    words: Mapping[str, Sequence[str]]
    grounds: Mapping[str, str]
    unseen: Collection[str] = ()
    afterwards: Collection[str] = ()
    name: str = "shape"
    ground: str = "ground"
    place: str = "place"
    untold: Collection[str] = ()
    kinds: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        order = ("order",) if self.afterwards else ()
        object.__setattr__(self, "kinds", ("thing", *self.attributes, self.place, *order, self.ground))

    @cached_property
    def _meaning(self) -> dict[str, str]:
        return {word: name for name, words in self.words.items() for word in words}

    @cached_property
    def _kind_of(self) -> dict[str, str]:
        found = {value: kind for kind, values in self.attributes.items() for value in values}
        return found | dict.fromkeys(self.unseen, "unseen")

    def claims(self, text: str) -> frozenset[Claim]:
        """Read what `text` claims; well-formed captions and hypotheses exactly, anything else as far as it makes sense.

        Attributes belong to the next thing named (after "is", to the last one), places to the last thing named; a word that
        belongs to none, and every unknown word, claims nothing. What is said twice counts once.
        """
        reader = _Reader(self)
        for token in re.findall(r"[a-z]+", text.lower()):
            reader.read(token, self._meaning.get(token, token), self._kind_of)
        return frozenset(reader.found)

    def is_true(self, claim: Claim, facts: Any) -> bool:
        """Whether `claim` holds in the scene with these `facts`; an attribute of a thing that is not there is false."""
        if claim.kind == "unseen":
            return False
        if claim.kind == self.ground:
            return bool(claim.value == facts[self.ground])
        things = {thing[self.name]: thing for thing in facts["things"]}
        thing = things.get(claim.shape)
        if claim.kind == "thing":
            return (thing is not None) == (claim.value == "present")
        if thing is None:
            return False
        if claim.kind == "order":
            return claim.value in things and things[claim.value]["cell"] < thing["cell"]
        if claim.kind == self.place:
            return cell_of(thing) in self.places[claim.value]
        return bool(claim.value == thing[claim.kind])

    def tellable(self, facts: Any) -> int:
        """How many things, attributes, places and grounds of a scene could be told; an order is none of its own."""
        told = sum(thing[kind] not in self.untold for thing in facts["things"] for kind in self.attributes)
        return 1 + 2 * len(facts["things"]) + told


class _Reader:
    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.found: set[Claim] = set()
        self.shape = self.before = ""
        self.pending: list[tuple[str, str]] = []
        self.place = ""
        self.absent = self.copula = False

    def read(self, token: str, word: str, kind_of: Mapping[str, str]) -> None:
        """A word of the text, and the name that it says."""
        grammar = self.grammar
        self._read_place(word)
        if word in grammar.things:
            self._read_thing(word)
        elif word in kind_of:
            self._read_attribute(kind_of[word], word)
        elif word in grammar.grounds:
            self.found.add(Claim(grammar.ground, grammar.grounds[word]))
            self.pending = []
        elif word in grammar.afterwards:
            self.before = self.shape
        elif word == "is":
            self.copula = True
        elif word in ("a", "an", "the", "and", "no"):
            self.pending, self.copula, self.absent = [], False, word == "no"

    def _read_thing(self, thing: str) -> None:
        self.found.add(Claim("thing", "absent" if self.absent else "present", thing))
        self.found |= {Claim(kind, value, thing) for kind, value in self.pending}
        if self.before:
            self.found.add(Claim("order", self.before, thing))
        self.shape, self.before, self.pending, self.absent, self.copula = thing, "", [], False, False

    def _read_attribute(self, kind: str, value: str) -> None:
        if self.copula and self.shape:
            self.found.add(Claim(kind, value, self.shape))
        else:
            self.pending.append((kind, value))

    def _read_place(self, word: str) -> None:
        """ "top" then "left" is the corner; each alone is the whole row or column."""
        places, kind = self.grammar.places, self.grammar.place
        joined = f"{self.place} {word}"
        if self.place and joined in places:
            self.found.discard(Claim(kind, self.place, self.shape))
            self.place = joined
        else:
            self.place = word if word in places else ""
        if self.place and self.shape:
            self.found.add(Claim(kind, self.place, self.shape))


def cell_of(thing: Any) -> Any:
    """The cell in a thing's facts, as grammars have it; JSON makes lists of pairs."""
    cell = thing["cell"]
    return tuple(cell) if isinstance(cell, list) else cell


def with_article(words: Sequence[str]) -> str:
    """ "a red star", "an orange star"."""
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def call(words: Mapping[str, Sequence[str]], name: str, rng: random.Random) -> str:
    """A word for a thing or an attribute, the usual one most often."""
    usual, *rare = words[name]
    return rng.choice(rare) if rare and rng.random() < 0.2 else usual


def join(phrases: Sequence[str], joints: Sequence[str], rng: random.Random) -> str:
    """ "x", "x and y", "x, y and z"."""
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join(phrases[:-1]) + rng.choice(joints) + phrases[-1]
