"""The world is what its version says, and every record names it."""

from __future__ import annotations

import json
import random
import shutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

import PIL
import pytest
from packaging.version import Version

from close.io.versions import mini_world, versions
from close.mini.world import WORLD_FILE, world
from close.runs.inspection import describe_installation

NEW_VERSION = (
    "the mini world has changed in {}. Scores on it can't be compared with those of before: give it a new version in {}, with "
    'the hashes {} and "pillow": "{}", and tell in experiments/mini_world/README.md what changed'
)


def test_the_world_is_what_its_version_says() -> None:
    said, found = json.loads(WORLD_FILE.read_text(encoding="utf-8")), world()
    if Version(PIL.__version__) < Version(said["pillow"]):  # older ones round outlines another way
        found["pictures"] = said["sha256"]["pictures"]
    changed = [name for name in found | said["sha256"] if found.get(name) != said["sha256"].get(name)]
    assert not changed, NEW_VERSION.format(changed, WORLD_FILE, json.dumps(found, indent=2), PIL.__version__)


DRAW, LANGUAGE, QUESTIONS, SCENE = (
    import_module(f"close.mini.{name}") for name in ("draw", "language", "questions", "scene")
)


@pytest.mark.parametrize(
    ("owner", "name", "value", "part"),
    [
        (DRAW, "RGB", DRAW.RGB | {"purple": (140, 44, 173)}, "pictures"),
        (LANGUAGE, "OPENINGS", (*LANGUAGE.OPENINGS[:-1], "a photo of "), "captions"),
        (LANGUAGE, "WORDS", LANGUAGE.WORDS | {"moon": ("crescent", "moon")}, "captions"),
        (QUESTIONS, "_TYPES", QUESTIONS._TYPES | {"size": 9}, "questions"),
        (SCENE, "PATTERNS", ("plain", "striped", "dotted"), "scenes"),
    ],
)
def test_what_is_drawn_or_written_otherwise_is_another_world(
    owner: ModuleType, name: str, value: object, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world()
    monkeypatch.setattr(owner, name, value)
    after = world()
    assert before[part] != after[part]
    assert before["encoder"] == after["encoder"]


@pytest.mark.parametrize("part", ["encoder", "language_model"])
def test_one_bit_of_what_is_shipped_makes_another_world(part: str, tmp_path: Path) -> None:
    for name in ("encoder", "language_model"):
        shutil.copytree(WORLD_FILE.parent / name, tmp_path / name)
    before = world(tmp_path)
    file = random.Random(0).choice(sorted((tmp_path / part).iterdir()))
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    assert [name for name, found in world(tmp_path).items() if found != before[name]] == [part]


def test_every_record_names_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = versions()["mini_world"]
    assert describe_installation()["versions"]["mini_world"] == here == mini_world()
    other = json.loads(WORLD_FILE.read_text(encoding="utf-8"))
    other["sha256"]["captions"] = "0" * 64
    (tmp_path / "world.json").write_text(json.dumps(other), encoding="utf-8")
    monkeypatch.setattr("close.io.versions.WORLD_FILE", tmp_path / "world.json")
    assert mini_world() != here
    assert mini_world().split()[0] == here.split()[0]
