"""What decides the geometry of a contrastive encoder? The mini world's situation in seconds: facts instead of pixels and words.

    python experiments/mini_world/without_pixels.py

A picture is a scene's facts, a text those that a caption tells and its wording, each through two layers; loss, temperature,
optimiser and schedule are the encoder's. A setting takes some 6 s of one core, so that ideas for the real encoder (12 minutes)
can be sifted: its geometry moves the same way, with wider clouds. Each setting changes the first, the shipped encoder's, by what
it names. Writes without_pixels.json; settings that it holds are not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from close.gap import measure_gap
from close.io.files import read_json, write_json
from close.io.versions import versions

SHIPPED: dict[str, Any] = {
    "things": (2, 4), "shapes": 10, "told": (35, 42, 23), "salience": 1.0, "colour": 0.8, "ground": 0.4,
    "private": 0, "scale": 100.0, "rate": 1.5e-3, "decay": 0.1, "steps": 700, "batch": 128, "embed": 256,
}  # fmt: skip
"""`told`: weights of telling one, two, three things; `private`: words that no picture shows, of which a caption has some two."""
FEW = {"told": (70, 25, 5), "salience": 0.4, "colour": 0.6, "ground": 0.25}
MANY = {"things": (4, 7), "shapes": 16}
TRIALS: tuple[dict[str, Any], ...] = (
    {}, MANY, {"private": 60}, FEW,
    {**MANY, "scale": 50.0}, {**MANY, "decay": 0.0}, {**MANY, "rate": 5e-4}, {**MANY, "batch": 512, "steps": 300},
    {"rate": 5e-4}, {"rate": 3e-4}, {"rate": 5e-4, "scale": 80.0}, {"rate": 5e-4, "steps": 1400},
    {"rate": 5e-4, "batch": 512, "steps": 350}, {"rate": 5e-4, "things": (3, 6)}, {"rate": 5e-4, "embed": 512},
    {"rate": 3e-4, "told": (15, 35, 50), "salience": 2.0}, {"rate": 3e-4, "batch": 512, "steps": 400},
)  # fmt: skip
COLOURS, SIZES, CELLS, GROUNDS, WORDING = 8, 3, 9, 6, 40
PER_SHAPE = 1 + COLOURS + SIZES + CELLS
Thing = tuple[int, int, int, int]
Scene = tuple[list[Thing], int]


def scene(rng: random.Random, world: dict[str, Any]) -> Scene:
    """Things (shape, colour, size, cell), and a ground."""
    count = rng.randint(*world["things"])
    shapes, cells = rng.sample(range(world["shapes"]), count), rng.sample(range(CELLS), count)
    things = [(s, rng.randrange(COLOURS), rng.randrange(SIZES), c) for s, c in zip(shapes, cells, strict=True)]
    return things, rng.randrange(GROUNDS)


def shown(scene: Scene, world: dict[str, Any]) -> list[int]:
    """All facts."""
    facts = [place for thing in scene[0] for place in places(thing)]
    return [*facts, world["shapes"] * PER_SHAPE + scene[1]]


def places(thing: Thing) -> tuple[int, int, int, int]:
    """Where a thing's facts stand: that it is there, its colour, size and cell."""
    shape, colour, size, cell = thing
    start = shape * PER_SHAPE + 1
    return start - 1, start + colour, start + COLOURS + size, start + COLOURS + SIZES + cell


def told(scene: Scene, world: dict[str, Any], rng: random.Random) -> list[int]:
    """The facts that a caption tells, a word it is told with, and what no picture shows."""
    count = min(len(scene[0]), rng.choices((1, 2, 3), weights=world["told"])[0])
    strikes = {t: t[2] + 0.7 * (2 - abs(t[3] // 3 - 1) - abs(t[3] % 3 - 1)) for t in scene[0]}
    order = sorted(scene[0], key=lambda t: -world["salience"] * strikes[t] + math.log(rng.expovariate(1)))
    ground = world["shapes"] * PER_SHAPE
    said = []
    for thing in order[:count]:
        there, colour, size, cell = places(thing)
        chances = ((there, 1), (colour, world["colour"]), (size, 0.5 * (thing[2] != 1)), (cell, 0.3))
        said += [place for place, chance in chances if rng.random() < chance]
    said += [ground + scene[1]] if rng.random() < world["ground"] else []
    said += [ground + GROUNDS + rng.randrange(WORDING) for _ in range(count)]
    if world["private"]:
        said += [ground + GROUNDS + WORDING + rng.randrange(world["private"]) for _ in range(3) if rng.random() < 0.7]
    return said


def hot(rows: list[list[int]], width: int) -> torch.Tensor:
    """(N, width) of zeros and ones."""
    out = np.zeros((len(rows), width), np.float32)
    out[np.repeat(np.arange(len(rows)), [len(row) for row in rows]), np.concatenate(rows)] = 1
    return torch.from_numpy(out)


class Tower(torch.nn.Module):
    """Two layers, normalised as a transformer's output is, and a projection into the shared space."""

    def __init__(self, width: int, embed: int, hidden: int = 192) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, hidden)
        self.norm, self.project = torch.nn.LayerNorm(hidden), torch.nn.Linear(hidden, embed, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        return normalize(self.project(self.norm(x + self.second(x).relu())), dim=-1)


def trial(changes: dict[str, Any], seed: int = 0) -> dict[str, float]:
    """Train both towers, and measure 250 pairs as those of real CLIP are measured."""
    world = SHIPPED | changes
    torch.manual_seed(seed)
    rng = random.Random(seed)
    facts = world["shapes"] * PER_SHAPE + GROUNDS
    width = facts + WORDING + world["private"]
    image, text = Tower(facts, world["embed"]), Tower(width, world["embed"])
    weights = [*image.parameters(), *text.parameters()]
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": world["decay"]},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=world["rate"], betas=(0.9, 0.98), fused=True)
    pool = [scene(random.Random(f"{number}-{seed}"), world) for number in range(6000)]
    pictures = hot([shown(one, world) for one in pool], facts)
    steps, losses = world["steps"], []
    for step in range(steps):
        share = step / 100 if step < 100 else (1 + math.cos(math.pi * (step - 100) / (steps - 100))) / 2
        for group in optimizer.param_groups:
            group["lr"] = world["rate"] * share
        chosen = rng.sample(range(len(pool)), world["batch"])
        captions = hot([told(pool[number], world, rng) for number in chosen], width)
        logits, own = world["scale"] * image(pictures[chosen]) @ text(captions).T, torch.arange(world["batch"])
        loss = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(loss.item())
    test = [scene(random.Random(f"test {number}"), world) for number in range(250)]
    with torch.inference_mode():
        images = image(hot([shown(one, world) for one in test], facts))
        texts = text(hot([told(one, world, random.Random(n)) for n, one in enumerate(test)], width))
    centred = cosine_similarity(images - images.mean(0), texts - texts.mean(0)).mean().item()
    return geometry(texts.numpy(), images.numpy()) | {
        "centred": round(centred, 3),
        "loss": round(sum(losses[-100:]) / 100, 3),
    }


def geometry(text: Any, image: Any) -> dict[str, float]:
    """What the world is compared with real CLIP by, of paired tables."""
    found = measure_gap(text, image, bootstrap=0)
    cosines = {name: f"cosine.{name}.mean" for name in ("paired", "unpaired", "text_text", "image_image")}
    same = ("centroid_gap", "pair_distance", "rmg", "cone.text", "cone.image", "neighbour_agreement")
    names = cosines | {name: name for name in same}
    names["recall_text_to_image"] = "recall.text_to_image.at_1"
    return {name: round(float(found[measure] or 0), 3) for name, measure in names.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    torch.set_num_threads(1)
    known = read_json(args.out)["trials"] if args.out.is_file() else []
    for seed in args.seeds:
        for changes in json.loads(json.dumps(TRIALS)):
            if not any((made["changes"], made["seed"]) == (changes, seed) for made in known):
                known.append({"changes": changes, "seed": seed, "measures": trial(changes, seed)})
                print(changes, known[-1]["measures"], flush=True)
                write_json(args.out, {"shipped": SHIPPED, "trials": known, "versions": versions()})


if __name__ == "__main__":
    main()
