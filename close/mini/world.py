"""Which mini world this is: its version, and hashes of all that it draws, writes and ships.

Scores made on one world say nothing of another, so every record names the world (`close.io.versions`). `world.json` is what
this world says it is; whoever changes a word, a pixel or a weight gives it a new version there, and a test holds them to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from close.mini.draw import pixels
from close.mini.entailment import entailment
from close.mini.language import STYLES, captions
from close.mini.questions import questions
from close.mini.scene import scenes
from close.mini.splits import SPLITS
from close.mini.worlds import WORLDS

__all__ = ["WORLD_FILE", "sound_world", "world"]

WORLD_FILE = Path(__file__).with_name("world.json")
"""`version`, and under `sha256` the hash of each part."""
_SCENES = 24
"""Of each split, for two seeds; enough that every word of the grammar and every shape and ground occurs."""


def world(folder: Path = WORLD_FILE.parent) -> dict[str, str]:
    """SHA-256 of each part of the world, made anew: scenes, pictures, captions, questions, entailment, encoder, language_model.

    Args:
        folder: where `encoder` and `language_model` lie.
    """
    pool = [scene for split in SPLITS for seed in (0, 1) for scene in scenes(split, _SCENES, seed)]
    return {
        "scenes": _sha256(map(repr, pool)),
        "pictures": _sha256(pixels(scene).tobytes() for scene in pool),
        "captions": _sha256(json.dumps(captions(scene, 12, style=style)) for scene in pool for style in STYLES),
        "questions": _sha256(repr(questions(scene, 12)) for scene in pool),
        "entailment": _sha256(repr(entailment(scene, 6)) for scene in pool),
        **{name: _sha256(_files(folder / name)) for name in ("encoder", "language_model")},
    }


def sound_world(folder: Path = WORLDS["sound"].folder) -> dict[str, str]:
    """Likewise of the sound world: scenes, sounds, captions, encoder, language_model."""
    made = WORLDS["sound"]
    pool = [scene for split in SPLITS for scene in made.scenes(split, _SCENES)]
    return {
        "scenes": _sha256(map(repr, pool)),
        "sounds": _sha256(map(made.file, pool)),
        "captions": _sha256(json.dumps(made.captions(scene, 12)) for scene in pool),
        **{name: _sha256(_files(folder / name)) for name in ("encoder", "language_model")},
    }


def _files(folder: Path) -> Iterable[Any]:
    for path in sorted(folder.iterdir()):
        yield path.name
        yield path.read_bytes()


def _sha256(parts: Iterable[str | bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return found.hexdigest()
