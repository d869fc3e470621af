"""Rows that are the same up to rounding: one image that was embedded anew for each of its captions, in other batches or in bf16.

Equal rows are found and are one image; what rounding has parted is only told, since nothing but pairs or rows can say for sure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from close.vectors.checked import BLOCK, Array, Ints

__all__ = ["SAME", "first_of_copies", "near_copies", "same_vector", "told_copies"]

SAME = 0.9995
"""Cosine over which two rows are one thing: its vector in other batches or in bf16 is no further from it."""
ASKED = 200
"""Rows that are compared with all others."""
MANY = {"text": 0.25, "image": 0.05}
"""Share of these from which on it is told: real data hold some images twice, and short captions come again."""


def same_vector(rows: Array, others: Array) -> npt.NDArray[np.bool_]:
    """(N,) whether unit rows are, one by one, the same up to rounding."""
    return np.einsum("ij,ij->i", rows, others) > SAME


def first_of_copies(rows: Array) -> Ints:
    """Numbers of those unit rows that are no copy of one before them; quadratic."""
    products = rows @ rows.T
    return np.flatnonzero(~np.tril(products > SAME, -1).any(axis=1))


def near_copies(rows: Any, together: Ints, seed: int = 0) -> tuple[int, int]:
    """How many of some unit rows have another that is the same up to rounding, and how many of them were asked.

    Linear in the rows, which are read block by block.

    Args:
        rows: (N, D). together: (N,) numbers that those share of which that is known.
    """
    rng = np.random.default_rng([seed, 7])
    asked = np.sort(rng.choice(len(rows), min(ASKED, len(rows)), replace=False))
    queries, found = np.ascontiguousarray(rows[asked].T), np.zeros(len(asked), np.bool_)
    for start in range(0, len(rows), BLOCK):
        row, query = np.nonzero(rows[start : start + BLOCK] @ queries > SAME)
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
        copies, asked = near_copies(rows, together)
        if copies >= MANY[side] * asked:
            found[side] = f"{copies} of {asked} {side}s, compared with all, have a copy (cosine over {SAME})"
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
