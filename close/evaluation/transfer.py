"""What the gap costs, in the score of a task, and how much of that an adapter wins back."""

from __future__ import annotations

__all__ = ["recovered_share"]


def recovered_share(score: float, none: float, ceiling: float, *, higher_is_better: bool = True) -> float | None:
    """(score − none)/(ceiling − none): the share of what the gap costs that an adapter wins back (Gu et al., ICCV 2023).

    Args:
        score: with images in, trained on text with the adapter.
        none: the same without any adapter.
        ceiling: trained on images.
        higher_is_better: of the score, or the other way round.
    Returns:
        1 is all, above it text-only training passes the ceiling; None where the ceiling is not better than `none`: nothing to
        recover.
    """
    better = ceiling > none if higher_is_better else ceiling < none
    return (score - none) / (ceiling - none) + 0.0 if better else None  # no −0
