"""Rows that are the same up to rounding: one image that was embedded anew for each of its captions, in other batches or in bf16.

Equal rows are found and are one image; what rounding has parted is only told, since nothing but pairs or rows can say for sure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from close.vectors.checked import BLOCK, Array, Ints

__all__ = ["SAME", "copies_above", "first_of_copies", "near_copies", "same_vector", "told_copies"]

SAME = 0.9995
"""Cosine over which two rows are one thing: its vector in other batches or in bf16 is no further from it."""
PART, NARROW, FEWEST_DIMS = 0.01, 1e-4, 8
"""Part of the rows' own spread that copies differ by at most; a spread, and a width, in which different rows come as near."""
ASKED = 200
"""Rows that are compared with all others."""
MANY, FEW = {"text": 0.25, "image": 0.05}, 10
"""Share of these, and number, from which on it is told: real data hold some images twice, and short captions come again."""


def same_vector(rows: Array, others: Array) -> npt.NDArray[np.bool_]:
    """(N,) whether unit rows are, one by one, equal but for float32's rounding."""
    return np.abs(np.asarray(rows, np.float64) - others).max(axis=1) < 1e-5


def copies_above(rows: Any) -> float:
    """The cosine over which unit rows are one another's copies; above 1 where different ones may lie as near."""
    some = np.asarray(rows[:: max(1, len(rows) // ASKED)], np.float64)
    spread = 1 - np.square(some.mean(axis=0)).sum() if len(some) else 0.0
    return 2.0 if spread < NARROW or rows.shape[1] < FEWEST_DIMS else 1 - min(1 - SAME, PART * float(spread))


def first_of_copies(rows: Array) -> Ints:
    """Numbers of unit rows of which none is a copy of one before it; quadratic."""
    above, kept = copies_above(rows), np.ones(len(rows), np.bool_)
    for start in range(0, len(rows), BLOCK):
        like = rows[start : start + BLOCK] @ rows[: start + BLOCK].T > above
        for row, own in enumerate(like, start):
            kept[row] = not (own[:row] & kept[:row]).any()
    return np.flatnonzero(kept)


def near_copies(rows: Any, together: Ints, above: float, seed: int = 0) -> tuple[int, int]:
    """How many of some unit rows have another that is the same up to rounding, and how many of them were asked.

    Linear in the rows, which are read block by block.

    Args:
        rows: (N, D). together: (N,) numbers that those share of which that is known. above: see `copies_above`.
    """
    rng = np.random.default_rng([seed, 7])
    asked = np.sort(rng.choice(len(rows), min(ASKED, len(rows)), replace=False))
    queries, found = np.ascontiguousarray(rows[asked].T), np.zeros(len(asked), np.bool_)
    for start in range(0, len(rows) if above < 1 else 0, BLOCK):
        row, query = np.nonzero(rows[start : start + BLOCK] @ queries > above)
        found[query[together[start + row] != together[asked[query]]]] = True
    return int(found.sum()), len(asked)


def told_copies(
    text: Any, image: Any, of_text: Ints, of_image: Ints, *, paired: bool, grouped: bool
) -> tuple[str, dict[str, str]]:
    """What is said of many images, or texts, that are one another's copies: of the images alone, and by side what follows.

    Args:
        text, image: (N, D) and (M, D) unit rows. of_text, of_image: (N,) and (M,) see `close.gap.modalities.drawn_together`.
        paired: whether there are pairs. grouped: whether groups say which texts are of one image.
    """
    found: dict[str, str] = {}
    for side, rows, together in (("text", text, of_text), ("image", image, of_image)):
        if side == "text" and not paired:
            continue
        above = copies_above(rows)
        copies, asked = near_copies(rows, together, above)
        if copies >= max(MANY[side] * asked, min(FEW, asked / 2)):
            found[side] = f"{copies} of {asked} {side}s, compared with all, have a copy (cosine over {above:.8g})"
    copied, told = "", {}
    if "text" in found:
        told["text"] = f"{found['text']} that is of another image: R@k takes an image's own rows alone for right"
    if "image" in found:
        copied = f"{found['image']}, as of one image that was embedded anew for each of its captions"
        known = paired and grouped
        harms = ["R@k reads low"] * paired + ["intervals are too narrow"] * (not known)
        mend = "give each image one row" + " (--per-image, --pairs)" * paired + ", or groups" * (paired and not grouped)
        told["image"] = f"{copied}; each counts as an image of its own, so {' and '.join(harms)}: {mend}"
    return copied, told
