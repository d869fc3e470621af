"""What a mini-world picture holds: a few things on a ground, and what no caption tells (light, texture, jitter).

Laws of the world, on which exact truth rests: a scene has 2 to 4 things; no two share a shape or a cell of the 3 × 3 grid;
each has one colour and one size; there is one ground.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

from close.mini.splits import drawn

__all__ = [
    "CELLS",
    "COLOURS",
    "GROUNDS",
    "MAX_THINGS",
    "MIN_THINGS",
    "PLACES",
    "SHAPES",
    "SIDE",
    "SIZES",
    "Facts",
    "Scene",
    "Thing",
    "ThingFacts",
    "facts",
    "sample_scene",
    "scenes",
]

SIDE = 64
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond", "moon", "arrow")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIZES = {"small": 6.0, "medium": 8.0, "large": 10.5}
"""Size to mean radius in pixels; the jitter stays within 8 %, so sizes never meet."""
GROUNDS = ("grass", "sand", "snow", "water", "wood", "stone")
CELLS = tuple((row, column) for row in range(3) for column in range(3))
PLACES = {
    "left": frozenset((row, 0) for row in range(3)),
    "right": frozenset((row, 2) for row in range(3)),
    "top": frozenset((0, column) for column in range(3)),
    "bottom": frozenset((2, column) for column in range(3)),
    "middle": frozenset({(1, 1)}),
    "top left": frozenset({(0, 0)}),
    "top right": frozenset({(0, 2)}),
    "bottom left": frozenset({(2, 0)}),
    "bottom right": frozenset({(2, 2)}),
}
"""What each place word says: the (row, column) cells it allows. "left" is the whole left column, "middle" one cell."""
MIN_THINGS, MAX_THINGS = 2, 4
_STREAMS = {"train": "captions", "val": "val", "test": "test", "encoder": "train"}
"""The random stream of each split; these names fix the scenes that the shipped encoder was trained on."""
PATTERNS = ("plain", "plain", "striped", "dotted")


class ThingFacts(TypedDict):
    """The tellable attributes of one thing; `cell` is (row, column) counted from the top left."""

    shape: str
    colour: str
    size: str
    cell: list[int]


class Facts(TypedDict):
    """The tellable truth of a scene, as it stands in `eval.jsonl`."""

    ground: str
    things: list[ThingFacts]


@dataclass(frozen=True)
class Thing:
    """One thing: shape, colour, size and cell can be told; centre, radius (pixels), angle (degrees) and pattern cannot."""

    shape: str
    colour: str
    size: str
    cell: tuple[int, int]
    centre: tuple[float, float]
    radius: float
    angle: float
    pattern: str


@dataclass(frozen=True)
class Scene:
    """A scene: things on a ground; light (gain), slope of the light, tint (RGB gains) and texture seed are never told."""

    id: str
    things: tuple[Thing, ...]
    ground: str
    light: float
    slope: tuple[float, float]
    tint: tuple[float, float, float]
    texture: int


def sample_scene(rng: random.Random, id: str = "") -> Scene:
    """Draw one scene from `rng`; `id` only names it."""
    count = rng.choices(range(MIN_THINGS, MAX_THINGS + 1), weights=(30, 40, 30))[0]
    shapes, cells = rng.sample(SHAPES, count), rng.sample(CELLS, count)
    return Scene(
        id=id,
        things=tuple(_sample_thing(rng, shape, cell) for shape, cell in zip(shapes, cells, strict=True)),
        ground=rng.choice(GROUNDS),
        light=rng.uniform(0.75, 1.1),
        slope=(rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)),
        tint=(rng.uniform(0.92, 1.08), rng.uniform(0.92, 1.08), rng.uniform(0.92, 1.08)),
        texture=rng.getrandbits(32),
    )


def _sample_thing(rng: random.Random, shape: str, cell: tuple[int, int]) -> Thing:
    size = rng.choices(list(SIZES), weights=(35, 30, 35))[0]
    row, column = cell
    return Thing(
        shape=shape,
        colour=rng.choice(COLOURS),
        size=size,
        cell=cell,
        centre=(11.5 + 20.5 * column + rng.uniform(-1.5, 1.5), 11.5 + 20.5 * row + rng.uniform(-1.5, 1.5)),
        radius=SIZES[size] * rng.uniform(0.92, 1.08),
        angle=rng.uniform(-14, 14),
        pattern=rng.choice(PATTERNS),
    )


def scenes(split: str, count: int, seed: int = 0) -> Iterator[Scene]:
    """Yield the first `count` scenes of a split; see `close.mini.splits.drawn`."""
    return drawn(split, count, seed, _STREAMS, sample_scene)


def facts(scene: Scene) -> Facts:
    """The tellable truth of `scene`, ready for JSON."""
    things: list[ThingFacts] = [
        {"shape": thing.shape, "colour": thing.colour, "size": thing.size, "cell": list(thing.cell)}
        for thing in scene.things
    ]
    return {"ground": scene.ground, "things": things}
