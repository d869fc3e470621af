"""Versions of what decides numbers, to be kept with them."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["mini_world", "own_version", "versions"]

WORLD_FILE = Path(__file__).parents[1] / "mini" / "world.json"
SOUND_WORLD_FILE = WORLD_FILE.parent / "sound" / "world.json"
"""Read as data: `close.mini` itself lies above this room, and `close.mini.world` makes the hashes."""


def own_version() -> str:
    """Of this toolkit."""
    return versions()["close-toolkit"]


def mini_world(file: Path | None = None) -> str:
    """Version of the embedded world and the start of the hash of its parts' hashes: "1 (0f3a92c41e07)".

    Args:
        file: `world.json` of another one.
    """
    world = json.loads((file or WORLD_FILE).read_text(encoding="utf-8"))
    parts = hashlib.sha256(json.dumps(world["sha256"], sort_keys=True).encode()).hexdigest()
    return f"{world['version']} ({parts[:12]})"


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers: packages, and the mini worlds that this toolkit ships."""
    found = {}
    for package in ("close-toolkit", "torch", "transformers", "open_clip_torch", "peft", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found | {"mini_world": mini_world(), "mini_sound_world": mini_world(SOUND_WORLD_FILE)}
