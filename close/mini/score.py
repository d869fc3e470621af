"""How much of what a caption claims is true of the scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from close.mini.worlds import world_of

__all__ = ["AttributeScore", "attribute_accuracy"]


@dataclass(frozen=True)
class AttributeScore:
    """Shares are 0 to 100 and pooled over all captions; a healthy captioner is above 90 in accuracy.

    Attributes:
        accuracy: claims that are true (a thing is there, its attributes, its place, the ground, an order). An attribute of a
            thing that is not there is false, and so is all that no picture can show. 0 where nothing is claimed.
        hallucination: mentioned things that are not there (CHAIR_i; Rohrbach et al., 2018).
        recall: tellable attributes of the scenes that are claimed; an attribute is each thing, its colour, its size unless
            medium, its place, and the ground. Saying little can't hide here. A reference caption tells 40 %.
        claims: claims per caption.
        by_kind: accuracy by kind of claim (`Grammar.kinds`), for the kinds that occur.
    """

    accuracy: float
    hallucination: float
    recall: float
    claims: float
    by_kind: dict[str, float]


def attribute_accuracy(captions: Sequence[str], truths: Sequence[Any]) -> AttributeScore:
    """Check each caption's claims (`close.mini.grammar`) against its scene's facts, all of one world.

    Raises:
        ValueError: there are no captions, or not as many as facts.
    """
    if not captions or len(captions) != len(truths):
        raise ValueError(f"{len(captions)} captions for {len(truths)} scenes: expected one each, and at least one")
    right: Counter[str] = Counter()
    made: Counter[str] = Counter()
    told = tellable = 0
    grammar = world_of(truths[0]).grammar
    for caption, truth in zip(captions, truths, strict=True):
        said = grammar.claims(caption)
        true = [claim for claim in said if grammar.is_true(claim, truth)]
        right.update(claim.kind for claim in true)
        made.update(claim.kind for claim in said)
        tells = (claim for claim in true if claim.kind != "order" and claim.value not in ("absent", *grammar.untold))
        told += len({(claim.kind, claim.shape) for claim in tells})
        tellable += grammar.tellable(truth)
    return AttributeScore(
        accuracy=_share(right.total(), made.total()),
        hallucination=_share(made["thing"] - right["thing"], made["thing"]),
        recall=_share(told, tellable),
        claims=made.total() / len(captions),
        by_kind={kind: _share(right[kind], made[kind]) for kind in grammar.kinds if made[kind]},
    )


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
