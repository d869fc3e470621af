"""The splits of every mini world, and how the scenes of one are drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

__all__ = ["SPLITS", "drawn"]

SPLITS = ("train", "val", "test", "encoder")
"""The first three are for use; from "encoder" the shipped encoder learnt, as CLIP did from the web and not from COCO."""
Scene = TypeVar("Scene")


def drawn(
    split: str, count: int, seed: int, streams: Mapping[str, str], sample: Callable[[random.Random, str], Scene]
) -> Iterator[Scene]:
    """Yield the first `count` scenes of a split.

    Each scene has its own seed, made of (split, seed, index): splits and seeds never share one, and a longer run starts
    with the scenes of a shorter one.

    Args:
        streams: of each split, its random stream. sample: draws one scene, and names it.
    Raises:
        ValueError: `split` is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    for index in range(count):
        number = f"{seed}-{index:06d}"
        yield sample(random.Random(f"{streams[split]}-{number}"), f"{split}-{number}")
