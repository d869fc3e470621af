"""What the gap costs, in the score of a task."""

from __future__ import annotations

from close.errors import DataError

__all__ = ["recovered_share", "transfer_gap"]


def transfer_gap(text_score: float, image_score: float) -> float:
    """Score with text in minus score with images in, for a model trained on text (Gu et al., ICCV 2023).

    Healthy: 0; CLOSE without noise loses most of its score.
    """
    return text_score - image_score


def recovered_share(score: float, none: float, ceiling: float) -> float:
    """(score − none)/(ceiling − none): the share of what the gap costs that an adapter wins back.

    Args:
        score: with images in, trained on text with the adapter.
        none: the same without any adapter.
        ceiling: trained on images.
    Healthy: 1 is all; the paper's best is .82.
    Raises:
        DataError: the ceiling is not above the score without adapter.
    """
    if ceiling <= none:
        raise DataError(
            f"the ceiling ({ceiling:g}) is not above the score without an adapter ({none:g}): nothing to recover"
        )
    return (score - none) / (ceiling - none)
