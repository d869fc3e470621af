"""Films of the mini world: the mean of the frames' vectors against a set of them.

    python experiments/senses/video/run.py                      # all of it; a stopped one goes on
    python experiments/senses/video/run.py --only "warm-up 0"   # one setting, and the other in a second process
    python experiments/senses/video/run.py --record             # train nothing: write down what is finished

A film is one scene in four frames, each in other light and texture; each thing is seen in two of them, and no frame shows all.
A row's sources are a caption of each frame (in training), its images the frames, its references captions of the whole scene.
Means and sets of the vectors, without a crossing, with noise, and trained on the frames themselves; the share recovered is of
what the set of images gains over the mean without a crossing. Writes results.json, .md and .png beside this file.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab import CROSSINGS, Lab
from senses import options, study

from close.mini import Scene, captions, draw, facts, sample_scene, scenes

FRAMES = 4
ARMS: dict[str, dict[str, Any]] = {
    f"{several}, {crossing}": {**CROSSINGS[crossing], "several": several}
    for several in ("mean", "set")
    for crossing in ("none", "noise .41", "images")
}


def frames(scene: Scene) -> list[Scene]:
    """The scene as a film: the first thing is seen in the first half, the second in the other, further ones in any two frames."""
    rng = random.Random(f"film {scene.id} {scene.texture}")
    begins = [0, 2, *(rng.randrange(FRAMES) for _ in scene.things[2:])]
    shown = []
    for place in range(FRAMES):
        there = [(place - begin) % FRAMES < 2 for begin in begins]
        things = tuple(thing for thing, seen in zip(scene.things, there, strict=True) if seen)
        look = sample_scene(rng)
        looks = {"light": look.light, "slope": look.slope, "tint": look.tint, "texture": look.texture}
        shown.append(replace(scene, id=f"{scene.id}-{place}", things=things, **looks))
    return shown


def make(folder: Path, split: str, count: int) -> None:
    """Write films of a split: frames, and a row each."""
    partial = folder.with_name(folder.name + ".partial")
    (partial / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for scene in scenes(split, count):
        shown = frames(scene)
        for frame in shown:
            draw(frame).save(partial / "images" / f"{frame.id}.png")
        said = captions(scene, 5)
        row = {
            "id": scene.id,
            "source": [captions(frame, 1)[0] for frame in shown],
            "target": said,
            "references": said,
            "image": [f"images/{frame.id}.png" for frame in shown],
            "meta": {"facts": facts(scene)},
        }
        lines.append(json.dumps(row) + "\n")
    (partial / "films.jsonl").write_text("".join(lines), encoding="utf-8")
    partial.rename(folder)


if __name__ == "__main__":
    lab = Lab(options(__doc__, __file__))
    train, test = (lab.data(split, make=make) / "films.jsonl" for split in ("train", "test"))
    study(lab, lab.recipe(train), test, ARMS, ends=("mean, none", "set, images"))
