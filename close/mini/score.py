"""How much of what a caption claims is true of the scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from close.mini.language import claims, is_true
from close.mini.scene import Facts

__all__ = ["AttributeScore", "attribute_accuracy"]


@dataclass(frozen=True)
class AttributeScore:
    """Shares are 0 to 100 and pooled over all captions; a healthy captioner is above 90 in accuracy.

    Attributes:
        accuracy: claims that are true (a thing is there, its colour, its size, its place, the ground). An attribute of a
            thing that is not there is false, and so is all that no picture can show. 0 where nothing is claimed.
        hallucination: mentioned things that are not there (CHAIR_i; Rohrbach et al., 2018).
        recall: tellable attributes of the scenes that are claimed; an attribute is each thing, its colour, its size unless
            medium, its place, and the ground. Saying little can't hide here. A reference caption tells 40 %.
        claims: claims per caption.
        by_kind: accuracy by kind of claim (thing, colour, size, place, ground), for the kinds that occur.
    """

    accuracy: float
    hallucination: float
    recall: float
    claims: float
    by_kind: dict[str, float]


def attribute_accuracy(captions: Sequence[str], truths: Sequence[Facts]) -> AttributeScore:
    """Check each caption's claims (`close.mini.language.claims`) against its scene's facts.

    Raises:
        ValueError: there are no captions, or not as many as facts.
    """
    if not captions or len(captions) != len(truths):
        raise ValueError(f"{len(captions)} captions for {len(truths)} scenes: expected one each, and at least one")
    right: Counter[str] = Counter()
    made: Counter[str] = Counter()
    told = tellable = 0
    for caption, truth in zip(captions, truths, strict=True):
        said = claims(caption)
        true = [claim for claim in said if is_true(claim, truth)]
        right.update(claim.kind for claim in true)
        made.update(claim.kind for claim in said)
        told += len({(claim.kind, claim.shape) for claim in true if claim.value != "absent"})
        tellable += 1 + sum(3 + (thing["size"] != "medium") for thing in truth["things"])
    return AttributeScore(
        accuracy=_share(right.total(), made.total()),
        hallucination=_share(made["thing"] - right["thing"], made["thing"]),
        recall=_share(told, tellable),
        claims=made.total() / len(captions),
        by_kind={
            kind: _share(right[kind], made[kind])
            for kind in ("thing", "colour", "size", "place", "ground")
            if made[kind]
        },
    )


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
