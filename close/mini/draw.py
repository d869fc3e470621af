"""Scenes to pictures: 64 × 64 RGB, drawn twice as large and averaged down."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from close.mini.scene import SIDE, Scene, Thing

__all__ = ["RGB", "draw", "pixels"]

RGB = {
    "red": (214, 32, 38),
    "orange": (250, 138, 18),
    "yellow": (250, 226, 40),
    "green": (28, 150, 54),
    "blue": (36, 76, 214),
    "purple": (140, 44, 172),
    "white": (245, 245, 245),
    "black": (24, 24, 24),
}
"""Colour name to the RGB a thing is filled with before light and texture."""
_GROUND = {  # base colour, grain, (vertical, horizontal) smoothing of the noise in pixels, contrast of the noise
    "grass": ((112, 172, 92), (4, 1), 22.0),
    "sand": ((222, 200, 150), (1, 1), 12.0),
    "snow": ((226, 234, 242), (8, 8), 9.0),
    "water": ((112, 176, 206), (1, 12), 26.0),
    "wood": ((164, 122, 84), (24, 1), 24.0),
    "stone": ((150, 150, 152), (6, 6), 26.0),
}
_SCALE = 2
_EDGE = (60, 60, 60)


def draw(scene: Scene) -> Image.Image:
    """Draw `scene` as a 64 × 64 RGB picture; the same scene gives the same pixels."""
    return Image.fromarray(pixels(scene))


def pixels(scene: Scene) -> NDArray[np.uint8]:
    """The picture of `scene` as a (64, 64, 3) array."""
    rng = np.random.default_rng(scene.texture)
    canvas = Image.new("RGB", (SIDE, SIDE)).resize((SIDE * _SCALE, SIDE * _SCALE))
    mask = Image.new("L", canvas.size)
    for thing in scene.things:
        _draw_thing(canvas, mask, thing)
    cover = np.asarray(mask.reduce(_SCALE), dtype=np.float32)[..., None] / 255
    things = np.asarray(canvas.reduce(_SCALE), dtype=np.float32)
    picture = _ground(scene.ground, rng) * (1 - cover) + things
    picture = picture * _light(scene) + rng.normal(0, 4, picture.shape).astype(np.float32)
    return picture.clip(0, 255).astype(np.uint8)


def _ground(ground: str, rng: np.random.Generator) -> NDArray[np.float32]:
    base, (high, wide), contrast = _GROUND[ground]
    coarse = rng.normal(0, contrast, (-(-SIDE // high), -(-SIDE // wide))).astype(np.float32)
    noise = coarse.repeat(high, 0).repeat(wide, 1)[:SIDE, :SIDE, None]
    return np.array(base, np.float32) + noise


def _light(scene: Scene) -> NDArray[np.float32]:
    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    slope = scene.slope[0] * ramp[None, :, None] + scene.slope[1] * ramp[:, None, None]
    return np.asarray(scene.light * (1 + slope) * np.array(scene.tint), np.float32)


def _draw_thing(canvas: Image.Image, mask: Image.Image, thing: Thing) -> None:
    """Paint one thing onto a black canvas, and its outline's inside onto the mask of what is covered."""
    on_canvas, on_mask = ImageDraw.Draw(canvas), ImageDraw.Draw(mask)
    outline, hole = _outline(thing)
    on_mask.polygon(outline, fill=255)
    on_canvas.polygon(outline, fill=RGB[thing.colour])
    if thing.pattern != "plain":
        _draw_pattern(canvas, thing, outline)
    on_canvas.polygon(outline, outline=_EDGE, width=2)
    if hole:
        on_mask.polygon(hole, fill=0)
        on_canvas.polygon(hole, fill=(0, 0, 0))


def _draw_pattern(canvas: Image.Image, thing: Thing, outline: list[tuple[float, float]]) -> None:
    """Faint stripes or dots of a darker (for black: lighter) shade inside the outline."""
    shade = tuple(int(value * 0.82) if thing.colour != "black" else value + 26 for value in RGB[thing.colour])
    inside = Image.new("L", canvas.size)
    ImageDraw.Draw(inside).polygon(outline, fill=255)
    layer = canvas.copy()
    pen = ImageDraw.Draw(layer)
    (x, y), reach = (value * _SCALE for value in thing.centre), int(thing.radius * _SCALE) + 2
    for step in range(-reach, reach, 6):
        if thing.pattern == "striped":
            pen.line([(x - reach, y + step), (x + reach, y + step)], fill=shade, width=2)
        else:
            for other in range(-reach, reach, 6):
                pen.rectangle([x + step, y + other, x + step + 2, y + other + 2], fill=shade)
    canvas.paste(layer, mask=inside)


def _outline(thing: Thing) -> tuple[list[tuple[float, float]], list[tuple[float, float]] | None]:
    """The thing's polygon on the large canvas, and the polygon of its hole where it has one."""
    unit, inner = _UNIT[thing.shape]
    return _place(unit, thing), _place(inner, thing) if inner else None


def _place(points: list[tuple[float, float]], thing: Thing) -> list[tuple[float, float]]:
    turn, scale = math.radians(thing.angle), thing.radius * _SCALE
    cos, sin = math.cos(turn) * scale, math.sin(turn) * scale
    x0, y0 = (value * _SCALE for value in thing.centre)
    return [(x0 + x * cos - y * sin, y0 + x * sin + y * cos) for x, y in points]


def _round(
    radius: float, start: float = 0, stop: float = 360, centre: tuple[float, float] = (0, 0)
) -> list[tuple[float, float]]:
    angles = np.radians(np.linspace(start, stop, 28))
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _star() -> list[tuple[float, float]]:
    return [
        (
            (1.08 if k % 2 == 0 else 0.45) * math.sin(k * math.pi / 5),
            -(1.08 if k % 2 == 0 else 0.45) * math.cos(k * math.pi / 5),
        )
        for k in range(10)
    ]


def _cross() -> list[tuple[float, float]]:
    arm = [(-0.33, -1.0), (0.33, -1.0), (0.33, -0.33)]  # turned by quarters
    return [(x * c - y * s, x * s + y * c) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1)) for x, y in arm]


def _heart() -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * math.pi, 32)
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
        for t in turns
    ]


_UNIT: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]] | None]] = {
    "circle": (_round(0.95), None),
    "square": ([(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)], None),
    "triangle": ([(0, -1.0), (0.98, 0.8), (-0.98, 0.8)], None),
    "star": (_star(), None),
    "heart": (_heart(), None),
    "cross": (_cross(), None),
    "ring": (_round(1.0), _round(0.5)),
    "diamond": ([(0, -1.08), (0.68, 0), (0, 1.08), (-0.68, 0)], None),
    "moon": (_round(1.0, 60, 300) + _round(0.8, 278, 82, (0.42, 0)), None),
    "arrow": ([(-1, -0.3), (0.1, -0.3), (0.1, -0.85), (1.05, 0), (0.1, 0.85), (0.1, 0.3), (-1, 0.3)], None),
}
"""Shape to its outline in a unit box (x to the right, y downwards) and, for the ring, its hole."""
