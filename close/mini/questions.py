"""Questions about a scene, each with ten answers as in VQA: most annotators agree, a few slip or use another word."""

from __future__ import annotations

import random
from dataclasses import dataclass

from close.mini.grammar import with_article
from close.mini.language import WORDS, place_phrase, salience
from close.mini.scene import COLOURS, GROUNDS, MAX_THINGS, PLACES, SHAPES, SIZES, Scene, Thing

__all__ = ["Question", "questions"]


@dataclass(frozen=True)
class Question:
    """A question; `answer` is the truth and the commonest of the ten `answers`.

    `answer_type` is VQA's: "yes/no", "number" or "other"; `question_type` is colour, size, place, shape, ground, count,
    presence or check.
    """

    text: str
    answer: str
    answers: tuple[str, ...]
    answer_type: str
    question_type: str


_TYPES = {"colour": 18, "shape": 8, "place": 10, "size": 8, "ground": 6, "count": 12, "presence": 19, "check": 19}
_CHOICES = {
    "colour": COLOURS,
    "shape": SHAPES,
    "place": tuple(PLACES),
    "size": tuple(SIZES),
    "ground": GROUNDS,
    "count": tuple(str(number) for number in range(MAX_THINGS + 1)),
}


def questions(scene: Scene, n: int = 3, rng: random.Random | None = None) -> list[Question]:
    """Ask `n` questions about `scene`, more often about what strikes the eye; without `rng` the scene's own seed is used."""
    rng = rng or random.Random(f"questions {scene.id} {scene.texture}")
    return [_question(scene, rng) for _ in range(n)]


def _question(scene: Scene, rng: random.Random) -> Question:
    kind = rng.choices(list(_TYPES), weights=list(_TYPES.values()))[0]
    thing = rng.choices(scene.things, weights=[2 ** salience(thing) for thing in scene.things])[0]
    text, answer = _ask(kind, scene, thing, rng)
    answer_type = {"count": "number", "presence": "yes/no", "check": "yes/no"}.get(kind, "other")
    return Question(text, answer, _annotators(answer, _CHOICES.get(kind, ("yes", "no")), rng), answer_type, kind)


def _ask(kind: str, scene: Scene, thing: Thing, rng: random.Random) -> tuple[str, str]:
    if kind == "colour":
        return f"what color is the {thing.shape}?", thing.colour
    if kind == "size":
        return f"how big is the {thing.shape}?", thing.size
    if kind == "place":
        return f"where is the {thing.shape}?", _exact(thing)
    if kind == "ground":
        return "what is the ground?", scene.ground
    if kind == "shape":
        return f"what is {place_phrase(_exact(thing))}?", _only_there(scene, thing)
    if kind == "count":
        return _count(scene, thing, rng)
    if kind == "presence":
        return _is_there(scene, thing, rng)
    colour = thing.colour if rng.random() < 0.5 else rng.choice([c for c in COLOURS if c != thing.colour])
    return f"is the {thing.shape} {colour}?", "yes" if colour == thing.colour else "no"


def _exact(thing: Thing) -> str:
    return min((name for name, cells in PLACES.items() if thing.cell in cells), key=lambda name: len(PLACES[name]))


def _only_there(scene: Scene, thing: Thing) -> str:
    """The thing itself, or, where its row or column holds several, the one that strikes the eye most."""
    there = [other for other in scene.things if other.cell in PLACES[_exact(thing)]]
    return max(there, key=lambda other: (salience(other), other.shape)).shape


def _count(scene: Scene, thing: Thing, rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        return "how many shapes are there?", str(len(scene.things))
    colour = thing.colour if rng.random() < 0.7 else rng.choice(COLOURS)
    return f"how many {colour} shapes are there?", str(sum(other.colour == colour for other in scene.things))


def _is_there(scene: Scene, thing: Thing, rng: random.Random) -> tuple[str, str]:
    present = {other.shape for other in scene.things}
    shape = thing.shape if rng.random() < 0.5 else rng.choice([name for name in SHAPES if name not in present])
    return f"is there {with_article([shape])}?", "yes" if shape in present else "no"


def _annotators(answer: str, choices: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """Ten answers: at most three differ, by another word for the same or by a slip."""
    dissent = rng.choices((0, 1, 2, 3), weights=(50, 25, 15, 10))[0]
    others = [*WORDS.get(answer, ())[1:] * 2, *(choice for choice in choices if choice != answer)]
    answers = [answer] * (10 - dissent) + [rng.choice(others) for _ in range(dissent)]
    rng.shuffle(answers)
    return tuple(answers)
