"""Which way across the gap and how much noise, before anything is trained.

What a decoder learns from noised texts, it is later asked to do for images. A linear decoder can be solved instead of trained,
so every adapter and every noise can be tried in seconds. For source vectors x (texts on the adapter's text side, mean x̄,
covariance S), target vectors y (covariance with the sources C) and noise w, trained on n·unit(x + w·ε) it is

    ŷ(z) = ȳ + C (S + w²I)⁻¹ (n·z − x̄),        n² = E‖x‖² + w²d,

and what counts is its *agreement* on images: the mean cosine of ŷ(z) − ȳ with y − ȳ, y the mean vector of the image's captions.
Noise alone: the least that comes within 2 % of its best agreement, since a language model pays for noise in ways that a linear
decoder does not feel. A linear decoder makes up for any shift, and so hardly tells one adapter from another; a language model
does not, and is best fed where it was trained. So of the adapters that come within 2 % of the best, the one that trained models
did best with is taken (its rank stands in its class, `Advised`; experiments/gap), and none where nothing is to be gained.
`shared` maps a text to the mean of its image's captions, and ridge to that of its images, which drops the wording: needed where
the source is its own target, and unlearnt anyway elsewhere. Behind a mere shift the noise is that of its best agreement. Behind
what drops the wording it is noise alone's: the agreement is flat there, and the images are as far as before.

Why single captioning wants more noise than multiple: noise shrinks a direction in which the sources vary by λ to λ/(λ + w²) of
itself. With the source as its own target, C = S, and without noise the decoder copies everything, also what tells one caption
of an image from another and what tells texts from images. Only noise makes it let go. With another caption of the image as the
target, C is the covariance of what captions *share*, and the wording is unlearnt without any noise: what is left for it to do is
to cover the distance of the images, which is what the pair residual measures. Single captioning needs w² near the residual's
variance in those directions where texts vary, E‖Σ_t^½ r‖²/Tr Σ_t, which is several times its mean over all directions.

For `retrieve`, texts search among texts with noise, and their images without (`close.gap.search_curve`): the search noise is
that at which what a text finds lies as far from the caption as what the image finds, and k the fewest texts whose mean says what
the best number says.

Where pairs are no nearer than strangers and yet belong together (`close.gap.measures.belonging`), the two spaces are not aligned:
nothing but a map that is learnt on pairs is tried, with the noise of its own best agreement.

Without pairs, texts are made into pseudo-images (`pseudo_pairs`, `close.runs.stand_ins`). Folds are halved by image: what is
tried on one half was learnt on the other, adapters included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from close.data.rows import Row
from close.errors import DataError, RecipeError, counted
from close.evaluation.transfer import recovered_share
from close.gap.advice.advice import Advice, Setting, Trial
from close.gap.advice.candidates import Candidate, candidates
from close.gap.advice.decoder import COSINES, agreement_behind, ceiling
from close.gap.advice.halves import LEAST, Half, Rows, several_of
from close.gap.advice.pseudo_pairs import pseudo_pairs
from close.gap.advice.reasons import reasons
from close.gap.measures.belonging import spaces_of_pairs
from close.gap.measures.residual import caption_spread, noise_from_pairs, noise_of
from close.gap.modalities import distinct_pairs
from close.gap.search_curve import QUERIES, SearchCurve, enough, search_curve
from close.runs.stand_ins import moved_to_images
from close.vectors.checked import Array, Floats, Pairs

if TYPE_CHECKING:
    from close.adapters import Needs

__all__ = ["recommend"]

FEWEST = 50
"""Texts that a search is advised on."""
ALMOST = 0.05
"""Nearest texts that are nearer than this share of what strangers are (0.2 to 0.6 for captions of photos) say the same."""


def recommend(
    text: Any,
    image: Any = None,
    *,
    pairs: Pairs = None,
    groups: npt.ArrayLike | None = None,
    captions: str = "single",
    task: str = "caption",
    sample: int = 20_000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Advice:
    """Adapter and noise for what there is: captions, groups of captions, unpaired images as well, or pairs.

    Args:
        text: (N, D) caption embeddings. image: (M, D), if there are any.
        pairs: with images: None pairs by row, "unpaired", or (P, 2) integers (text, image).
        groups: (N,) labels: captions of one image share theirs. From the pairs, where not given. Where most captions stand
            alone, and fewer than 100 images have several, each caption's nearest other one is taken as it is without groups.
        captions: "single": the source is the target; "multiple": the other captions of its group are.
        task: what it is for; where the target is never the source (answers, labels), other captions of a group stand in for it.
        sample: with more texts than this, whole groups of them are drawn with `seed`; without pairs, and with "multiple", first
            those with several captions, where these would be too few.
    Raises:
        DataError: rows that can't be used; fewer than 8 images or groups, with "multiple" than 8 with several captions.
        MismatchError: widths differ. RecipeError: unknown setting. UnknownNameError: unknown task.
    """
    setting = _setting(task, captions)
    rows = Rows.of(text, image, pairs, groups, counted(sample, "sample", 2), seed, setting)
    if setting == "multiple" and rows.several < LEAST:
        raise _no_other_captions(rows, captions)
    halves = list(rows.halves(setting, seed))
    lie = spaces_of_pairs(rows.text, rows.images, rows.pairs, rows.labels, seed=seed) if len(rows.pairs) else None
    able, few = _candidates(rows, halves, lie == "unaligned")
    tried = list(_tried(able, halves, seed, progress or (lambda _: None)))
    alone, (chosen, at) = tried[0].curve, _chosen(tried, setting, lie == "unaligned")
    best = float(np.mean([ceiling(half) for half in halves])) if rows.data == "pairs" else None
    without, agreement = float(alone[0]), float(chosen.curve[at])
    advice = Advice(
        data=rows.data,
        captions=captions,
        adapter=chosen.candidate.spec,
        cosine=COSINES[at],
        std=float(chosen.length * np.sqrt((COSINES[at] ** -2 - 1) / rows.text.shape[1])),
        dim=rows.text.shape[1],
        agreement=agreement,
        without=without,
        ceiling=best,
        recovered_share=None if best is None else recovered_share(agreement, without, best),
        calibrations=_calibrations(rows),
        trials=[_trial(one) for one in tried],
        search=None if lie == "unaligned" else _told(_search(rows, seed)),
        task=task,
        setting=setting,
        spaces=lie,
    )
    by_nearest = not (rows.grouped or len(rows.pairs))
    unsure = _unsure(rows.text, min(len(text), sample)) if by_nearest else _shared(rows)
    several = rows.several if by_nearest else 0
    return replace(advice, reasons=tuple(reasons(advice, chosen.candidate, alone, few, several, unsure)))


def _setting(name: str, captions: str) -> Setting:
    """Whether a text is its own target, "single", or another one is, "multiple".

    Raises:
        UnknownNameError: unknown task. RecipeError: unknown setting, or one that the task does not have.
    """
    from close.tasks import get_task

    task = get_task(name)
    if captions not in ("single", "multiple"):
        raise RecipeError(f"captions is 'single' or 'multiple', not {captions!r}")
    if captions == "multiple" and task.asks:
        raise RecipeError(
            f"captions: multiple takes other captions of an image as targets, and task {name!r} asks something of each: leave "
            "captions out"
        )
    try:
        own = task.targets(Row(id="row", source=("text",))) == ("text",)
    except DataError:  # it needs an answer or a label
        own = False
    return "single" if own and captions == "single" else "multiple"


def _no_other_captions(rows: Rows, captions: str) -> DataError:
    other = "captions: single" if captions == "multiple" else "task: caption, which takes more noise"
    shared, give = "no two texts share a group", "groups or pairs"
    if rows.several:
        shared = f"{rows.several} images have two, of {LEAST} that are needed"
        give = "captions of more images"
    return DataError(
        f"the targets are other captions of the same image, or these stand in for them, and {shared}: "
        f"give {give}, or ask for {other}"
    )


def _unsure(text: Array, of: int) -> str:
    """Why each text's nearest other one tells little of images, if so.

    Args:
        text: (N, D) different unit rows. of: of so many texts, equal ones counted.
    """
    if 2 * len(text) < of:
        return (
            f"Unsure: {of} texts have only {len(text)} different vectors, so captions come again, or are beyond what the encoder "
            "can tell apart (close retrieve with some captioned pictures says whether it can)."
        )
    near = np.sort(text[:QUERIES] @ text.T, axis=1)[:, -2]
    strangers = (np.square(text.sum(axis=0, dtype=np.float64)).sum() / len(text) - 1) / (len(text) - 1)
    if 1 - np.median(near) >= ALMOST * (1 - strangers):
        return ""
    return (
        f"Unsure: the nearest other caption is almost the same (cosine {np.median(near):.3f}, strangers {strangers:.3f}), so "
        "what stands in for an image is nearer than images are, and this is too little noise: captions in groups, or captioned "
        "images, tell better."
    )


def _shared(rows: Rows) -> str:
    """Why the halves are not apart, if so."""
    if not (rows.copies and len(rows.pairs)):
        return ""
    return (
        f"Unsure: {rows.copies}, so both halves hold the same images and what is learnt looks better than it is: give each image "
        "one row (--pairs), or say which texts are of one image (--groups)."
    )


def _search(rows: Rows, seed: int) -> SearchCurve | None:
    """What captions find with noise, against what their images find, or what stands in for these; None where there are too few.

    A stand-in is made of another caption, which is found by neither.
    """
    if len(rows.text) < FEWEST:
        return None
    labels = rows.labels if rows.several else None
    if len(rows.pairs):
        pairs = distinct_pairs(rows.pairs)
        return search_curve(rows.text, rows.images[pairs[:, 1]], pairs[:, 0], labels=labels, seed=seed)  # type: ignore[index]
    pairs = pseudo_pairs(rows.text, rows.labels if rows.grouped else None)
    chosen = np.sort(np.random.default_rng(seed).choice(len(pairs), min(QUERIES, len(pairs)), replace=False))
    queries, partners = pairs[chosen].T
    images = moved_to_images(rows.text[partners], rows.text, rows.images, seed=seed)
    return search_curve(rows.text, images, queries, partners, labels=labels, seed=seed)


def _told(curve: SearchCurve | None) -> dict[str, Any] | None:
    return None if curve is None else curve.to_dict() | {"overlap_at_noise": curve.at_noise(curve.overlap)}


@dataclass(frozen=True)
class _Tried:
    """A candidate's agreement at each of `COSINES`, and √E‖x‖² of the sources that the noise is added to."""

    candidate: Candidate
    curve: Floats
    length: float


def _candidates(rows: Rows, halves: Sequence[Half], unaligned: bool) -> tuple[list[Candidate], list[str]]:
    """What there are rows enough for, in each half too, and of what may do harm with so few, why.

    Args:
        unaligned: only what brings pairs together that lie anywhere, beside nothing at all, however few they are.
    """
    images = 0 if rows.images is None else len(rows.images)
    texts = len(np.unique(rows.labels))  # captions of one image count once
    learnt = min(several_of(half.fit["groups"]) for half in halves)
    counts: dict[Needs, int] = {
        "text": texts,
        "groups": rows.several,
        "unpaired": min(texts, images),
        "paired": len(np.unique(rows.pairs[:, 1])),
    }
    every = candidates([kind for kind, count in counts.items() if count])
    if unaligned:
        able = [one for one in every if one.spec is None or one.place.aligns]
        return able, [why for one in able if (why := one.too_few(counts, rows.text.shape[1]))]
    few = [one.too_few(counts, rows.text.shape[1]) for one in every]
    if learnt < 2:  # no fit is tried on a half of them
        lacking = f"not two images with several captions in a half, of {rows.several}"
        few = [
            why or (f"{one.title} ({lacking})" if "groups" in one.needs else "")
            for one, why in zip(every, few, strict=True)
        ]
    return [one for one, why in zip(every, few, strict=True) if not why], [why for why in few if why]


def _tried(
    able: Sequence[Candidate], halves: Sequence[Half], seed: int, tell: Callable[[str], None]
) -> Iterator[_Tried]:
    for candidate in able:
        tell(f"trying {candidate.title}")
        found = [agreement_behind(half, candidate.spec, seed) for half in halves]
        curve = np.mean([curve for curve, _ in found], axis=0)
        yield _Tried(candidate, curve, float(np.mean([length for _, length in found])))


def _chosen(tried: Sequence[_Tried], setting: str, unaligned: bool) -> tuple[_Tried, int]:
    """What is advised, and which of `COSINES`.

    Nothing where it is good enough without noise; else the first in rank of those within `TOLERANCE` of the best. Where spaces
    are not aligned, never nothing, with the noise of its own best: what noise alone takes says nothing there.
    """
    if unaligned:
        best = max(tried[1:], key=lambda one: float(one.curve.max()))
        return best, int(best.curve.argmax())
    least = enough(max(float(one.curve.max()) for one in tried))
    able = [one for one in tried if one.curve.max() >= least]
    chosen = min(able, key=lambda one: math.inf if (rank := one.candidate.rank(setting)) is None else rank)
    if tried[0].curve[0] >= least:
        chosen = tried[0]
    if chosen.candidate.place.drops_wording:
        alone = tried[0].curve
        return chosen, int(np.argmax(alone >= enough(alone.max())))
    return chosen, int(chosen.curve.argmax())


def _calibrations(rows: Rows) -> dict[str, dict[str, float]]:
    """Isotropic noise as large as the pair residual, and as the spread of captions of one image."""
    found = {}
    if len(rows.pairs):
        noise = noise_from_pairs(rows.text, rows.images, rows.pairs)
        found["pair_residual"] = {"std": noise.std, "cosine": noise.cosine}
    if rows.several >= LEAST:
        std = caption_spread(rows.text, rows.labels).std
        found["caption_spread"] = {
            "std": std,
            "cosine": float(noise_of(std**2 * rows.text.shape[1], rows.text.shape[1])[1]),
        }
    return found


def _trial(one: _Tried) -> Trial:
    at = int(one.curve.argmax())
    return Trial(one.candidate.spec or "none", COSINES[at], float(one.curve[at]), float(one.curve[0]))
