"""Pictures to try a run with, where the package can draw some that it knows."""

from __future__ import annotations

import base64
import io
from typing import Any

from close.mini import Scene, captions, draw, entailment, questions, scenes

__all__ = ["samples"]

COUNT = 12


def samples(encoder: str) -> list[dict[str, Any]]:
    """Scenes of the mini world's test split, with what can be asked of them; none for an encoder that knows other pictures."""
    return [_sample(*one) for one in enumerate(scenes("test", COUNT), 1)] if encoder == "mini" else []


def _sample(number: int, scene: Scene) -> dict[str, Any]:
    file = io.BytesIO()
    draw(scene).save(file, "PNG")
    return {
        "name": f"sample {number}",
        "caption": captions(scene, 1)[0],
        "questions": list(dict.fromkeys(one.text for one in questions(scene, 4))),
        "hypotheses": [one.hypothesis for one in entailment(scene, 3)],
        "png": base64.b64encode(file.getvalue()).decode(),
    }
