"""Whether pairs belong together at all, and whether a linear map shows it where the two spaces are not aligned.

Pairs no nearer than strangers are dealt out wrongly, or lie in two spaces that were never brought together, as those of a text
and of an image encoder trained apart. What tells the two apart is whether both sides are ordered alike, which a rotation leaves
as it is: linear CKA, against what it comes to with the same rows paired at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from close.errors import DataError
from close.gap.copies import first_of_copies, same_vector
from close.gap.measures.base import MEASURES, Family, Measure
from close.gap.measures.cosine import Spread, paired_cosine, unpaired_cosine
from close.gap.modalities import Modalities, distinct_pairs
from close.vectors.checked import Floats, Ints, Pairs
from close.vectors.second_moments import paired

__all__ = [
    "MappedPairs",
    "ShuffledCka",
    "Spaces",
    "mapped_pairs",
    "separation",
    "shuffled_cka",
    "spaces",
    "spaces_of_pairs",
]

SHUFFLED, MAPPED, FEWEST_PAIRS, DRAWS = 500, 2000, 20, 99
"""Pairs that are shuffled (quadratic in them) and mapped at most, of either at least, and how often they are shuffled."""
SURE, HARDLY, WEAKLY, BETTER = 5.0, 0.25, 1.0, 4.0
"""Spreads of the shuffled CKA that pairs which belong together lie above it; the separation under which pairs are hardly nearer
than strangers, and that under which they may be so by chance, if a map's is so many times as large."""

Spaces = Literal["aligned", "unaligned", "unrelated"]


@dataclass(frozen=True)
class ShuffledCka:
    """Linear CKA of rows paired at random: mean and standard deviation, and how many of these the true pairs lie above it."""

    mean: float
    std: float
    above: float


@dataclass(frozen=True)
class MappedPairs:
    """Held-out pairs behind a linear map: mean cosine, its separation from strangers, share of images whose text, or one equal to
    it, is first."""

    cosine: float
    separation: float
    recall: float


def separation(pairs: float, strangers: Spread) -> float:
    """How far pairs lie above strangers, in the strangers' standard deviations; CLIP has about 3, chance 0."""
    return (pairs - strangers.mean) / max(strangers.std, 1e-12)


def spaces(apart: float, above: float | None, mapped: float | None = None) -> Spaces:
    """How pairs, and the spaces that they lie in, go together.

    Args:
        apart: `separation` of the pairs as they are. above: `ShuffledCka.above`. mapped: `MappedPairs.separation`.
    Returns:
        "aligned": pairs are nearer than strangers. "unaligned": they are not, though they belong together; or are so little
        nearer, beside what a linear map reaches, that a turn of one side may have done it. "unrelated": neither.
    """
    together = above is not None and above >= SURE
    if together and apart < WEAKLY and (apart < HARDLY or (mapped or 0.0) > BETTER * apart):
        return "unaligned"
    return "unrelated" if apart < HARDLY else "aligned"


def spaces_of_pairs(text: Any, image: Any, pairs: Ints, together: Ints, *, seed: int = 0) -> Spaces:
    """`spaces` of rows; of too few pairs for more by how near these are alone.

    Args:
        pairs: (P, 2) text and image rows. together: see `units`.
    """
    strangers = unpaired_cosine(text, image, pairs)
    apart = separation(paired_cosine(text, image, pairs).mean, strangers)
    if apart >= WEAKLY:
        return "aligned"
    above, mapped = None, None
    with suppress(DataError):
        above = shuffled_cka(text, image, units(pairs, together, SHUFFLED, seed), seed=seed).above
        mapped = mapped_pairs(text, image, units(pairs, together, MAPPED, seed), seed=seed).separation
    return spaces(apart, above, mapped)


def shuffled_cka(text: Any, image: Any, pairs: Pairs = None, *, draws: int = DRAWS, seed: int = 0) -> ShuffledCka:
    """Linear CKA with images dealt out anew to the texts, `draws` times: what it is of pairs that do not belong together.

    Quadratic in the pairs. Of several captions of an image the first counts, also of one that was embedded anew for each and is
    equal up to rounding. Few rows for the dimensions make any CKA large,
    these too, so that how far the true pairs lie above them is not biased by it. Healthy: over 5.

    Raises:
        DataError: fewer than 20 pairs; all texts, or all images, are the same.
    """
    text, image, index = paired(text, image, pairs)
    index = _apart(index, image)
    texts, images = _alike(text[index[:, 0]]), _alike(image[index[:, 1]])
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(index)) for _ in range(draws))
    found = np.array([np.vdot(texts, images[order][:, order]) for order in orders])
    above = (np.vdot(texts, images) - found.mean()) / max(found.std(), 1e-12)
    return ShuffledCka(float(found.mean()), float(found.std()), float(above))


def _alike(rows: Any) -> Floats:
    """(P, P) products of centred rows, of length 1 as a whole."""
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    products = centred @ centred.T
    size = np.linalg.norm(products)
    if size < 1e-12:
        raise DataError("the paired texts or the paired images are all the same")
    return np.asarray(products / size)


def _apart(pairs: Ints, image: Any) -> Ints:
    """Pairs of which no two are of one image, also where it was embedded anew for each; a copy would tell one of the other."""
    found = distinct_pairs(pairs)
    return _enough(found[first_of_copies(image[found[:, 1]])])


def _enough(pairs: Ints) -> Ints:
    if len(pairs) < FEWEST_PAIRS:
        raise DataError(f"needs {FEWEST_PAIRS} images, each with a text of its own; there are {len(pairs)}")
    return pairs


@MEASURES.register(
    Measure(
        "shuffled_cka.mean",
        Family.STRUCTURE,
        "CKA, pairs shuffled",
        "mean CKA of pairs dealt out at random",
        "far under that of the pairs",
        source="elementary",
        misleads="Is of few rows, and so larger than it would be of all: compare by the spreads above it.",
        caveat=lambda data: _on_some(data, SHUFFLED),
    ),
    Measure("shuffled_cka.std", Family.STRUCTURE, "  spread", "standard deviation", "small"),
    Measure(
        "shuffled_cka.above",
        Family.STRUCTURE,
        "  true pairs above it",
        "(CKA − mean)/spread, on the same rows",
        "over 5; wrong pairs: −2 to 3",
        low=SURE,
        source="elementary (a permutation test)",
        misleads="Says that pairs have to do with each other, not that much: it grows with their number, and a third of them "
        "may be wrong. Where rows lie in two clusters and no more, 1 in 100 of wrong pairings is over 5, however many pairs.",
    ),
)
def _shuffled(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(shuffled_cka(data.text, data.image, units(data.pairs, data.clusters, SHUFFLED, seed), seed=seed))


def units(pairs: Ints, together: Ints, most: int, seed: int) -> Ints:
    """Pairs of which no two are of one image, or of one film; at most so many, drawn with `seed`.

    Args:
        together: (N,) numbers that texts of one image, or film, share.
    Raises:
        DataError: fewer than 20.
    """
    every = distinct_pairs(pairs)
    every = every[np.sort(np.unique(together[every[:, 0]], return_index=True)[1])]
    if len(every) > most:
        every = every[np.sort(np.random.default_rng(seed).choice(len(every), most, replace=False))]
    return _enough(every)


def _on_some(data: Modalities, most: int) -> str:
    able = len(np.unique(data.clusters[data.pairs[:, 0]]))
    return f"on {most} of {able} pairs, drawn with seed {data.seed}" if able > most else ""


def mapped_pairs(text: Any, image: Any, pairs: Pairs = None, *, seed: int = 0) -> MappedPairs:
    """What a linear map (ridge, as `close recommend` advises it) that is learnt on half of the pairs does for the other half.

    Of several captions of an image the first counts, as in `shuffled_cka`. Where texts are equal, as names of classes, any of
    them is the right one. Healthy: a cosine near 1, a separation far over 3, a high recall.

    Raises:
        DataError: fewer than 20 pairs; texts that are all the same.
    """
    import torch

    from close.adapters import build_adapter

    text, image, index = paired(text, image, pairs)
    index = _apart(index, image)
    index = index[np.random.default_rng([seed, 3]).permutation(len(index))]
    learnt, tried = index[: len(index) // 2], index[len(index) // 2 :]
    adapter = build_adapter({"linear": {"method": "ridge"}}, text.shape[1]).eval()
    adapter.fit(text=text[learnt[:, 0]], image=image[learnt[:, 1]], quiet=True)
    with torch.no_grad():
        texts = adapter(torch.as_tensor(text[tried[:, 0]], dtype=torch.float32), "text").double().numpy()
    cosines = texts @ image[tried[:, 1]].T.astype(np.float64)
    found = cosines.argmax(axis=0)
    own, strangers = np.diag(cosines), cosines[~np.eye(len(cosines), dtype=bool)]
    return MappedPairs(
        float(own.mean()),
        separation(float(own.mean()), Spread(float(strangers.mean()), float(strangers.std()))),
        float(same_vector(text[tried[found, 0]], text[tried[:, 0]]).mean()),
    )


@MEASURES.register(
    Measure(
        "linear_map.cosine",
        Family.STRUCTURE,
        "Cosine, pairs, mapped",
        "pairs behind a linear map of other pairs",
        "near 1",
        source="elementary",
        misleads="Rises with the images' cone, as that of pairs does: see how far it is above strangers.",
        caveat=lambda data: _on_some(data, MAPPED),
    ),
    Measure(
        "linear_map.separation",
        Family.STRUCTURE,
        "  above strangers",
        "(pairs − strangers)/spread of strangers",
        "over 3",
        source="elementary",
        misleads="Strangers that are captions of like images come near too, so it stays small where all images are alike.",
    ),
    Measure(
        "linear_map.recall",
        Family.STRUCTURE,
        "  Image → text, R@1",
        "right text is first, of the pairs held out",
        "high; chance is one over the different texts",
        source="elementary",
        misleads="It is among half of the pairs, 1,000 at most, and so higher than the R@1 among all would be. Of equal "
        "texts any is right.",
    ),
)
def _mapped(data: Modalities, seed: int) -> Mapping[str, float]:
    if data.remade:
        raise DataError("images are made of texts of other images here: nothing is said by it")
    chosen = units(data.pairs, data.clusters, MAPPED, seed)
    strangers = unpaired_cosine(data.text, data.image, data.pairing, moment=data.moments)
    if separation(float(data.pair_cosines.mean()), strangers) >= WEAKLY:
        raise DataError(
            "pairs are nearer than strangers as they are; what a map adds is told by --adapter '{linear: {method: ridge}}'"
        )
    return vars(mapped_pairs(data.text, data.image, chosen, seed=seed))
