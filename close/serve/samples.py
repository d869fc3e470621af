"""Pictures and sounds to try a run with, where the package can make some that its encoder knows."""

from __future__ import annotations

import base64
import mimetypes
from typing import Any

from close.mini import entailment, questions
from close.mini.worlds import WORLDS, World

__all__ = ["samples"]

COUNT = 12


def samples(encoder: str) -> list[dict[str, Any]]:
    """Scenes of a mini world's test split, with what can be asked of them; none for an encoder that knows other things."""
    worlds = [world for world in WORLDS.values() if world.encoder == encoder]
    return [_sample(world, *one) for world in worlds for one in enumerate(world.scenes("test", COUNT), 1)]


def _sample(world: World, number: int, scene: Any) -> dict[str, Any]:
    asks = world.name == "drawn"
    return {
        "name": f"sample {number}",
        "caption": world.captions(scene, 1)[0],
        "questions": list(dict.fromkeys(one.text for one in questions(scene, 4))) if asks else [],
        "hypotheses": [one.hypothesis for one in entailment(scene, 3)] if asks else [],
        "type": mimetypes.types_map[world.suffix],
        "data": base64.b64encode(world.file(scene)).decode(),
    }
