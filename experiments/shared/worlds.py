"""Texts, pictures and groups to try adapters on: a folder of embeddings in folds by group, or the mini world in draws."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.io.files import read_json, write_json
from close.io.record import stamp
from close.study.results import interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Groups of captions with a picture each.

    Attributes:
        text: (N, D). image: (G, D). groups: (N,) the picture of each text. held: pictures that are only tried on, or None.
    """

    name: str
    text: Floats
    image: Floats
    groups: NDArray[np.int64]
    held: int | None

    def draws(self, groups: int | None, times: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Pictures to learn from, and those to try on.

        Args:
            groups: how many to learn from; None: all that there are.
            times: draws; of a world without held pictures, folds of five, in so many orders.
        """
        count = len(self.image)
        for draw in range(times):
            order = np.random.default_rng(draw).permutation(count if self.held is None else count - self.held)
            if self.held is not None:
                yield order[:groups], np.arange(count - self.held, count)
                continue
            for fold in range(5):
                tried = order[fold::5]
                yield np.setdiff1d(order, tried, assume_unique=True)[:groups], tried

    def rows(self, pictures: NDArray[np.int64]) -> NDArray[np.int64]:
        """Texts of pictures."""
        return np.flatnonzero(np.isin(self.groups, pictures))


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)


def folder(place: Path) -> World:
    """`text.npy`, `image.npy`, and `groups.json` (the picture of each text) unless they are paired by row."""
    text, image = (np.load(place / f"{side}.npy").astype(np.float64) for side in ("text", "image"))
    file = place / "groups.json"
    groups = np.array(read_json(file)) if file.is_file() else np.arange(len(text))
    return World(place.name, text, image, groups, None)


def mini(reference: str, work: Path, scenes: int = 3000, tests: int = 500) -> World:
    """Scenes of the mini world through an encoder, five captions each; the last `tests` of them are of the test split."""
    from close.data.rows import RowFile
    from close.encoders import load_encoder
    from close.mini import export
    from close.vectors.cache import cached_table

    encoder = load_encoder(reference)
    text, image = [], []
    for split, count in (("train", scenes), ("test", tests)):
        place = work / f"{split}-{count}"
        if not place.exists():
            work.mkdir(parents=True, exist_ok=True)
            export(place, split, count)
        text.append(np.asarray(cached_table(RowFile(place / "captions.jsonl"), encoder, "text")[:], np.float64))
        image.append(np.asarray(cached_table(RowFile(place / "eval.jsonl"), encoder, "image")[:], np.float64))
    groups = np.repeat(np.arange(scenes + tests), 5)
    return World(f"mini world, {reference}", np.concatenate(text), np.concatenate(image), groups, tests)


def options(doc: str, out: Path) -> argparse.ArgumentParser:
    """The command line that the scripts here share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of text.npy, image.npy, groups.json")
    parser.add_argument("--encoder", nargs="*", default=["mini"], help="for the mini world; none: leave it out")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("runs/shared"))
    parser.add_argument("--out", type=Path, default=out)
    return parser


def worlds(args: argparse.Namespace) -> Iterator[World]:
    """Those that the command line names."""
    yield from map(folder, args.data)
    for reference in args.encoder:
        yield mini(reference, args.work)


def record(args: argparse.Namespace, table: Callable[[World, int], Any], markdown: Callable[[Any], str]) -> Any:
    """Measure every world, and write that down: as JSON, and as text beside it."""
    logging.getLogger("close").setLevel(logging.ERROR)
    found = {"worlds": {world.name: table(world, args.draws) for world in worlds(args)}, **stamp()}
    write_json(args.out, found)
    args.out.with_suffix(".md").write_text(markdown(found), encoding="utf-8")
    print(markdown(found))
    return found


def spread(values: list[float]) -> dict[str, float | None]:
    """Mean, half of its 95 % interval over draws (Student's t; None of one draw), and the least."""
    found = interval(values)
    half = None if found["ci"] is None else round(found["ci"][1] - found["mean"], 4)
    return {"mean": round(found["mean"], 4), "half": half, "least": round(min(values), 4)}


def around(one: Mapping[str, Any]) -> str:
    """`spread` as text: the mean, and half its interval where there is one."""
    return f"{one['mean']:+.3f}" + ("" if one["half"] is None else f" ± {one['half']:.3f}")
