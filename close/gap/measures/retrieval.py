"""Retrieval across modalities, and how far neighbours in one are neighbours in the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from close.errors import DataError, counted
from close.gap.measures.base import MEASURES, Family, Interval, Measure
from close.gap.modalities import Modalities, distinct_pairs, hit_ranks
from close.gap.resample import Resample
from close.gap.search_curve import MOST, QUERIES
from close.vectors.checked import Floats, Ints, Pairs
from close.vectors.neighbours import NEIGHBOURS, Neighbours, nearest_across, nearest_within
from close.vectors.second_moments import paired

__all__ = ["Recall", "Retrieval", "neighbour_agreement", "pair_recall"]


@dataclass(frozen=True)
class Recall:
    """Fractions of queries with a right answer among the first 1, 5, 10."""

    at_1: float
    at_5: float
    at_10: float


@dataclass(frozen=True)
class Retrieval:
    """Recall in both directions."""

    image_to_text: Recall
    text_to_image: Recall


def pair_recall(text: Any, image: Any, pairs: Pairs = None, *, neighbours: Neighbours | None = None) -> Retrieval:
    """R@1, R@5, R@10 as fractions, both ways: queries are the paired rows, candidates all rows of the other modality.

    With several captions of an image, any of them is right. Exact. Healthy: 1 is perfect, 1/N chance; CLIP on 5,000 COCO images
    has .52 (ViT-B/16, image to text, at 1) and .33 (text to image). It hardly sees the gap: a shift changes it little.

    Args:
        neighbours: `nearest_across(text, image)`, where it is known already.
    """
    text, image, index = paired(text, image, pairs)
    image_to_text, text_to_image = hit_ranks(index, neighbours or nearest_across(text, image))
    return Retrieval(_recall(image_to_text[1]), _recall(text_to_image[1]))


def _recall(ranks: Ints) -> Recall:
    return Recall(*(float((ranks < at).mean()) for at in (1, 5, 10)))


SEARCH = "this project, after IFCap (Lee et al., EMNLP 2024)"
MISLEADS = "It falls with the number of candidates, and captions that would do as well count as wrong: compare like files only."


def _declared(direction: str, title: str, right: str, scale: tuple[float, float] | None = None) -> tuple[Measure, ...]:
    """R@1, R@5 and R@10 of one direction."""
    asked_by: Literal[0, 1] = 1 if direction == "image_to_text" else 0
    return tuple(
        Measure(
            f"recall.{direction}.at_{at}",
            Family.STRUCTURE,
            title if at == 1 else f"  R@{at}",
            f"right {right} is first" if at == 1 else f"among {at}",
            f"high; chance is {at}/N",
            scale=scale if at == 1 else None,
            interval=Interval(partial(_drawn_recall, place=1 - asked_by, at=at), bounds=(0.0, 1.0)),
            asked_by=asked_by,
            source="elementary",
            misleads=MISLEADS,
        )
        for at in (1, 5, 10)
    )


def _drawn_recall(drawn: Resample, place: int, at: int) -> Floats:
    queries, ranks = drawn.data.hit_ranks[place]
    weights = (drawn.of_image, drawn.of_text)[place][:, queries].astype(np.float64)
    return np.asarray(weights @ (ranks < at) / weights.sum(axis=1))


@MEASURES.register(*_declared("image_to_text", "Image → text, R@1", "text", scale=(0.0, 1.0)))
def _image_to_text(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(_pair_recall(data).image_to_text)


@MEASURES.register(*_declared("text_to_image", "Text → image, R@1", "image"))
def _text_to_image(data: Modalities, seed: int) -> Mapping[str, float]:
    return vars(_pair_recall(data).text_to_image)


def _pair_recall(data: Modalities) -> Retrieval:
    if data.remade:
        raise DataError(
            "images are made of texts of other images here, which come before their own: nothing is said by it"
        )
    return pair_recall(data.text, data.image, data.pairing, neighbours=data.neighbours)


def neighbour_agreement(text: Any, image: Any, pairs: Pairs = None, *, k: int = NEIGHBOURS) -> float:
    """Mean |N_k(v_i) ∩ N_k(t_i)|/k, k = 10: neighbours of an image among images, of its text among texts, as pairs.

    Of several captions of an image the first counts, and of several images of a caption. Quadratic, blockwise. Healthy: 1 the
    two modalities order the world alike; k/N is chance; CLIP has .29 on 250 COCO pairs. A rotation of one modality doesn't
    change it.

    Raises:
        DataError: not more than k + 1 pairs. RecipeError: k is none.
    """
    counted(k, "k")
    text, image, index = paired(text, image, pairs)
    index = distinct_pairs(index)
    if len(index) <= k + 1:
        raise DataError(f"needs more than {k + 1} images, each with a text of its own; there are {len(index)}")
    texts, images = nearest_within(text[index[:, 0]], k), nearest_within(image[index[:, 1]], k)
    return float((texts[:, :, None] == images[:, None, :]).sum() / texts.size)


@MEASURES.register(
    Measure(
        "neighbour_agreement",
        Family.STRUCTURE,
        "Neighbour agreement",
        "|N(v) ∩ N(t)|/10",
        "over 0.4; CLIP 0.3; chance is 10/N",
        low=0.4,
        sample=("pairs",),
        misleads="Turning one modality leaves it where it was, although no text finds its image any more.",
        source="Huh et al., ICML 2024",
    )
)
def _neighbour_agreement(data: Modalities, seed: int) -> float:
    return neighbour_agreement(data.text, data.image, data.pairing)


def _on_some(data: Modalities) -> str:
    """Of how many captions the search is, where these are not all that have an image, and among how many texts."""
    able, texts = len(distinct_pairs(data.pairs)), len(data.text)
    among = f"; among {MOST} of {texts} texts" if texts > MOST else ""
    return f"asked by {QUERIES} of {able} captions, drawn with seed {data.seed}{among}" if able > QUERIES else among[2:]


@MEASURES.register(
    Measure(
        "search.cosine",
        Family.STRUCTURE,
        "Search noise, as a cosine",
        "at which a text finds as near texts as its image",
        "what retrieve.noise is for; 1: none is needed",
        misleads="What is found may lie as far from the caption and yet be other texts: see what both find.",
        caveat=_on_some,
        source=SEARCH,
    ),
    Measure(
        "search.overlap",
        Family.STRUCTURE,
        "  Found by both, then",
        "|N(t + noise) ∩ N(v)|/5",
        "high; chance is 5/N",
        misleads="Falls with the number of texts, of which more and more are as good.",
        caveat=_on_some,
        source=SEARCH,
    ),
)
def _search(data: Modalities, seed: int) -> Mapping[str, float]:
    curve = data.search
    noise, overlap = curve.noise, curve.at_noise(curve.overlap)
    if noise is None or overlap is None:
        raise DataError(
            f"images find texts at cosine {curve.image_nearness:.2f} from their caption, and a text still finds nearer ones "
            f"({curve.nearness[-1]:.2f}) with noise of cosine {min(curve.cosine)}, the most that was tried"
        )
    return {"cosine": noise, "overlap": overlap}
