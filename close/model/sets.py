"""Items of several vectors: their own (images or sources of one row), and those found for them in a memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from close.adapters import GapAdapter, vector_seeds
from close.data.rows import Modality
from close.errors import MismatchError

__all__ = ["SET_INPUTS", "Sets", "adapted_sets", "check_sets", "padded_sets"]

SET_INPUTS = ("embeds_mask", "neighbours", "neighbours_mask")
"""What `CloseModel.prompt` takes of an item beside `embeds`."""
_FIRST_NEIGHBOUR = 1 << 16
"""Number of a row's first neighbour among its streams of noise: behind all vectors of its own, however many those are."""


@dataclass(frozen=True)
class Sets:
    """B items, each of one vector or of several.

    Attributes:
        embeds: (B, D) unit rows, or (B, k, D), the first of each item its main one.
        embeds_mask: (B, k) bool, which of them count (the first does); None where all do.
        neighbours: (B, n, D) text vectors found for the items, of any length; None where nothing was.
        neighbours_mask: (B, n) bool; None where all count.
    """

    embeds: Tensor
    embeds_mask: Tensor | None = None
    neighbours: Tensor | None = None
    neighbours_mask: Tensor | None = None

    @classmethod
    def of(cls, embeds: Tensor | Sets) -> Sets:
        """Of (B, D) or (B, k, D) vectors, or as they are."""
        return embeds if isinstance(embeds, Sets) else cls(embeds)

    def __len__(self) -> int:
        return len(self.embeds)

    def __getitem__(self, rows: Sequence[int]) -> Self:
        return self._each(lambda tensor: tensor[list(rows)])

    def to(self, device: Any) -> Self:
        """On another device, vectors in float32."""
        return self._each(lambda tensor: tensor.to(device, torch.float32 if tensor.is_floating_point() else None))

    def with_neighbours(self, neighbours: Tensor, mask: Tensor | None = None) -> Self:
        """With those found for the items: (B, n, D), or (B, D) of one each, and (B, n) which of them count."""
        neighbours = neighbours[:, None] if neighbours.ndim == 2 else neighbours
        return replace(self, neighbours=neighbours, neighbours_mask=mask)

    @property
    def main(self) -> Tensor:
        """(B, D) unit rows, one an item: its vector, or the unit mean of its own."""
        if self.embeds.ndim == 2:
            return self.embeds
        counts = torch.ones_like(self.embeds[..., 0]) if self.embeds_mask is None else self.embeds_mask.float()
        return F.normalize((self.embeds * counts[..., None]).sum(1), dim=-1)

    @property
    def counts(self) -> set[int]:
        """How many vectors of their own the items have."""
        if self.embeds_mask is not None:
            return set(self.embeds_mask.sum(1).tolist())
        return {1 if self.embeds.ndim == 2 else self.embeds.shape[1]}

    @property
    def inputs(self) -> dict[str, Tensor]:
        """By the names that `CloseModel` takes them by, all but `embeds`."""
        return {key: value for key in SET_INPUTS if (value := getattr(self, key)) is not None}

    def _each(self, change: Any) -> Self:
        tensors = {"embeds": self.embeds, **self.inputs}
        return replace(self, **{key: change(value) for key, value in tensors.items()})


def padded_sets(items: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Items of (D,) or (k, D) each, together.

    Returns:
        (B, D) where each is one vector; else (B, k, D), with an item's first vector where it has fewer, and the (B, k) bool mask
        of those that are its own (None where all have as many).
    """
    sets = [item[None] if item.ndim == 1 else item for item in items]
    counts = torch.tensor([len(one) for one in sets])
    most = int(counts.max())
    if most == 1:
        return torch.cat(sets), None
    filled = [torch.cat([one, one[:1].expand(most - len(one), -1)]) for one in sets]
    mask = torch.arange(most) < counts[:, None]
    return torch.stack(filled), None if bool(mask.all()) else mask


def adapted_sets(
    adapter: GapAdapter, sets: Sets, modality: Modality, seeds: Tensor | None, retrieve: dict[str, Any] | None
) -> tuple[Tensor, Tensor | None]:
    """What a prefix reads: an item's own vectors, adapted on their side, and its neighbours, which are texts, on the text side.

    Neighbours keep their length, and pass without noise but where `retrieve` says `noisy` (Knight).

    Args:
        seeds: (B,) of the rows; each of their vectors draws for itself.
        retrieve: of the run's configuration; `main: false` leaves the item's own vectors out where it has neighbours.
    Returns:
        (B, D), or (B, k, D) and the (B, k) bool mask of which count (None where all do).
    """
    about, neighbours = retrieve or {}, sets.neighbours
    if neighbours is None:
        return _adapted(adapter, sets.embeds, modality, seeds), _bool(sets.embeds_mask)
    lengths = neighbours.norm(dim=-1, keepdim=True)
    unit = neighbours / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)
    noisy = bool(about.get("noisy"))
    found = _adapted(adapter, unit, "text", seeds, start=_FIRST_NEIGHBOUR, noisy=noisy) * lengths
    if about.get("main", True) is False:
        return found, _bool(sets.neighbours_mask)
    own = _adapted(adapter, sets.embeds, modality, seeds)
    own = own[:, None] if own.ndim == 2 else own
    return torch.cat([own, found], dim=1), _joined(own, _bool(sets.embeds_mask), found, _bool(sets.neighbours_mask))


def _adapted(
    adapter: GapAdapter,
    vectors: Tensor,
    modality: Modality,
    seeds: Tensor | None,
    *,
    start: int = 0,
    noisy: bool = True,
) -> Tensor:
    """(B, D) or (B, k, D) unit rows, each through the adapter."""
    if vectors.ndim == 2:
        return adapter(vectors, modality, seeds, noisy=noisy)
    if seeds is not None:
        seeds = vector_seeds(seeds, vectors.shape[1], start).flatten()
    flat: Tensor = adapter(vectors.flatten(0, 1), modality, seeds, noisy=noisy)
    return flat.view_as(vectors)


def _joined(own: Tensor, mask: Tensor | None, found: Tensor, found_mask: Tensor | None) -> Tensor | None:
    if mask is None and found_mask is None:
        return None
    both = ((own, mask), (found, found_mask))
    full = [one.new_ones(one.shape[:2], dtype=torch.bool) if counts is None else counts for one, counts in both]
    return torch.cat(full, dim=1)


def _bool(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.bool()


def check_sets(sets: Sets, dim: int, encoder: str) -> None:
    """Refuse vectors that are not of the model's encoder.

    Raises:
        MismatchError: of another width, or of shapes that do not belong together.
    """
    embeds, neighbours = sets.embeds, sets.neighbours
    if embeds.ndim not in (2, 3) or embeds.shape[-1] != dim or not all(embeds.shape):
        raise MismatchError(
            f"embeddings of shape {tuple(embeds.shape)} for a model of encoder {encoder!r}: "
            f"expected (batch, {dim}), or (batch, k, {dim}) of items of several vectors"
        )
    if neighbours is not None and (neighbours.ndim != 3 or neighbours.shape[::2] != (len(embeds), dim)):
        raise MismatchError(
            f"neighbours of shape {tuple(neighbours.shape)} for {len(embeds)} embeddings of encoder {encoder!r}: "
            f"expected ({len(embeds)}, n, {dim})"
        )
    for name, vectors, mask in (
        ("embeds_mask", embeds, sets.embeds_mask),
        ("neighbours_mask", neighbours, sets.neighbours_mask),
    ):
        if mask is not None and (vectors is None or mask.shape != vectors.shape[:-1] or mask.ndim != 2):
            raise MismatchError(f"{name} of shape {tuple(mask.shape)} says nothing of vectors of that shape")
