"""Why the advice is what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from close.gap.advice.advice import Advice
from close.gap.advice.candidates import Candidate
from close.gap.advice.decoder import COSINES
from close.gap.advice.halves import GROUPS
from close.gap.search_curve import TOLERANCE
from close.runs.stand_ins import TYPICAL_GAP
from close.vectors.checked import Floats

__all__ = ["reasons"]

_BASIS = {
    "captions": "No images and one caption of each: every caption's nearest other caption, shifted by a gap as long as CLIP's "
    f"({TYPICAL_GAP}), half of it against the captions' mean, stands in for an image. Captions in groups, or some images, make "
    "this surer.",
    "groups": "No images: another caption of the same image, shifted by a gap as long as CLIP's "
    f"({TYPICAL_GAP}), half of it against the captions' mean, stands in for the image.",
    "unpaired": "Images without captions: texts carried to the images' mean and covariance stand in for captioned images.",
    "pairs": "Captioned images: what is learnt on one half of them is tried on the other.",
}
_WRONG = (
    "Unsure: the pairs do not belong together (they are no nearer than strangers, nor are both sides ordered alike): check how "
    "texts and images are paired (--pairs), or say that they are not (--unpaired). Until then nothing here is worth following."
)
_SHARED = (
    "shared takes away as much wording as the groups tell it of, and says how much when it is fitted: little from fewer "
    "than 100. The noise behind it goes with the length of training: the longer, the more (cosines of 0.84, 0.67 and "
    "0.54 were best at 470, 938 and 1,875 steps of batch 64), and too little for a length is a disaster. Let a sweep "
    "choose it, by pictures that need no captions (close sweep --noise … --select ROWS --select-image PICTURES): "
    "captions alone flatter little noise. And let the run hold its best checkpoint (training.metric_for_best: cider, "
    "with data.val: captions in groups), which saved runs with too little noise (experiments/shared)."
)


def reasons(
    found: Advice, chosen: Candidate, alone: Floats, few: Sequence[str] = (), groups_left: int = 0, unsure: str = ""
) -> Iterator[str]:
    """A sentence each.

    Args:
        alone: (len(COSINES),) agreement with noise alone. few: what is left out, each with the reason.
        groups_left: images with several captions that are too few to be judged by.
        unsure: why stand-ins tell little here.
    """
    yield from filter(None, (_BASIS[found.data], unsure, _WRONG if found.spaces == "unrelated" else ""))
    if found.spaces == "unaligned":
        yield from _unaligned(found, few)
        return
    if groups_left:
        yield (
            f"Only {groups_left} images have several captions, which tell the noise worse than each caption's nearest other one: "
            f"captions count as one of each image here. From {GROUPS} on, or where they are half of all, they are judged by."
        )
    yield from _targets(found)
    for name, noise in found.calibrations.items():
        size = f"std {noise['std']:.3f}, cosine {noise['cosine']:.2f}"
        yield f"For comparison, noise as large as the {name.replace('_', ' ')}: {size}."
    at, shown = COSINES[int(alone.argmax())], "images" if found.data == "pairs" else "stand-ins for images"
    yield (
        f"Linear decoder on {shown}, noise alone: agreement {alone[0]:.2f} without noise, {alone.max():.2f} at the best "
        f"cosine {at:.2f}."
    )
    if few:
        yield f"Left out, since what learns from so few rows may do harm: {', '.join(few)}."
    if found.adapter is None:
        yield f"The least noise within {TOLERANCE:.0%} of the best: cosine {found.cosine:.2f}, agreement {found.agreement:.2f}."
        if found.data == "captions" and found.setting == "single" and at < found.cosine:
            yield (
                f"Sweep both (close sweep --noise {found.cosine:.2f} --noise {at:.2f}): from captions alone the best itself made "
                "captioners 17 % better with 3,000 captions, and none with 300 (experiments/gap)."
            )
    else:
        yield (
            f"Of the adapters within {TOLERANCE:.0%} of the best, {chosen.title} is the one that trained models did best "
            f"with for {found.setting} targets. Noise of cosine {found.cosine:.2f}, "
            + ("the least within 2 % of the best alone" if chosen.place.drops_wording else "the best behind it")
            + f": agreement {found.agreement:.2f}."
        )
    if "shared" in chosen.title.split():
        yield _SHARED
    if found.search is not None:
        yield _searching(found.search, stand_ins=found.data != "pairs")
    if found.ceiling is not None:
        yield f"Trained on these images instead, it reaches {found.ceiling:.2f}."


def _targets(found: Advice) -> Iterator[str]:
    """What the noise is for, by what is learnt."""
    if found.task != "caption":
        yield f"This advice was judged on models that caption (experiments/gap), and on none that do {found.task}."
    if found.setting == "single":
        yield (
            "The source is its own target, so without noise the model learns to copy what no image carries: its wording, and "
            "the side of the gap it is on. Only noise makes it let go of that, so it takes more than the distance of an image."
        )
    else:
        yield (
            "The target is not the source, so what captions of an image do not share is unlearnt without noise; the noise has "
            "only to cover how far images lie from their captions."
            + (" Other captions of the same image stand in for the target here." if found.captions == "single" else "")
        )
    if found.captions == "multiple":
        yield (
            "Consider captions: single. With the wording taken away by shared, captions that are their own targets made better "
            "captioners than other captions as targets, on every encoder tried (experiments/gap)."
        )


def _unaligned(found: Advice, few: Sequence[str]) -> Iterator[str]:
    """Two encoders that were never brought together: a map, and nothing else."""
    yield (
        "The two spaces are not aligned: pairs are hardly nearer than strangers, though both sides are ordered alike. So a map "
        "learnt on pairs is all that is advised. What takes one shared space for granted was not tried: noise alone, shifts, "
        "centring, a memory, retrieve."
    )
    yield (
        f"Linear decoder on images of the other half: agreement {found.without:.2f} as they are, {found.agreement:.2f} behind "
        f"the map. Noise of cosine {found.cosine:.2f} is the best for that decoder; no models have been trained on such spaces "
        "yet: sweep noises around it."
    )
    if few:
        yield f"Unsure: these rows are few for a map, more pairs make it better: {', '.join(few)}."
    if found.ceiling is not None:
        yield f"Trained on these images instead, it reaches {found.ceiling:.2f}."


def _searching(curve: Mapping[str, Any], stand_ins: bool) -> str:
    """What retrieval is to be trained with, and what is expected of it."""
    own = "" if curve["image_own"] is None else f", {curve['image_own']:.0%} of them other captions of the same image"
    who = "a stand-in for an image" if stand_ins else "an image"
    found = (
        f"With retrieve: what {who} finds lies at cosine {curve['image_nearness']:.2f} from its caption (strangers "
        f"{curve['strangers']:.2f}){own}; a caption without noise finds nearer ones ({curve['nearness'][0]:.2f}), "
    )
    if curve["noise"] is None:
        return found + (
            f"and so it does with all the noise that was tried (cosine {min(curve['cosine'])}: {curve['nearness'][-1]:.2f}): no "
            "memory is advised, since none can be searched as badly in training."
        )
    return found + (
        f"with noise of cosine {curve['noise']:.2f} as near ones, of which the image finds {curve['overlap_at_noise']:.0%} too "
        "(no models have been trained by this advice yet; sweep noises around it). The mean of "
        f"{curve['best_k']} says as much of the caption as that of more."
    )
