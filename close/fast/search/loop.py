"""The loop, step for step as in transformers' generation/utils.py (version 5), over any kind of language model.

Three things make it fast. What all beams of an input share is computed once an input. The cache is never reordered: the beams of
an input attend to all keys of that input, and a mask of who descends from whom hides the rest. Inputs leave the batch when
nothing can improve them any more.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from close.fast.search.settings import Search

__all__ = ["Decoding", "beams", "descent", "greedy"]

NEVER = -1.0e9
"""Score of what can't be chosen, as in transformers."""


class Decoding(Protocol):
    """What a language model has computed so far for B inputs, and the passes that a search needs."""

    def first(self) -> Tensor:
        """(B, V) float32 logits of the first token."""

    def step(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """(B, beams, V) float32 logits after the newest tokens.

        Args:
            tokens: (B, beams). parents: (B, beams, t) which beam of each time a beam descends from, itself last.
        """

    def keep(self, inputs: Tensor) -> None:
        """Drop the inputs that a (B,) bool tensor does not name."""


def descent(parents: Tensor) -> Tensor:
    """(B, beams, t · beams) which of all tokens found, those of one time side by side, a beam does not descend from."""
    return (parents[..., None] != torch.arange(parents.shape[1], device=parents.device)).flatten(2)


def greedy(decoding: Decoding, search: Search) -> tuple[Tensor, Tensor]:
    """(B, T) ids and (B,) mean log-probabilities."""
    logits = decoding.first()[:, None]
    count, device = len(logits), logits.device
    out = torch.full((count, search.max_new_tokens), search.pad, device=device)
    total = torch.zeros(count, device=device)
    length = torch.full((count,), search.max_new_tokens, device=device)
    rows, ends_at = torch.arange(count, device=device), torch.tensor(search.ends, device=device)
    parents = torch.zeros(1, 1, search.max_new_tokens, dtype=torch.long, device=device)
    for step in range(search.max_new_tokens):
        best, chosen = (found[:, 0, 0] for found in _log_probabilities(logits, 1))
        out[rows, step] = chosen
        total[rows] += best
        going = ~torch.isin(chosen, ends_at)
        length[rows[~going]] = step + 1
        if step + 1 == search.max_new_tokens or not going.any():
            break
        if not going.all():
            rows, chosen = rows[going], chosen[going]
            decoding.keep(going)
        logits = decoding.step(chosen[:, None], parents[:, :, : step + 1].expand(len(rows), -1, -1))
    return out[:, : int(length.max())], total / length


def beams(decoding: Decoding, search: Search) -> tuple[Tensor, Tensor]:
    """(B · texts, T) ids of each input's best, and (B · texts,) their sums of log-probabilities over length ** length_penalty."""
    logits = decoding.first()[:, None]
    count, width, longest, device = len(logits), search.num_beams, search.max_new_tokens, logits.device
    rows, slots = torch.arange(count, device=device), torch.arange(width, device=device)
    ends_at = torch.tensor(search.ends, device=device)
    kept = max(2, 1 + len(search.ends)) * width  # as many as can end, and those that go on
    ids = torch.full((count, width, longest), search.pad or search.ends[0], device=device)
    found = ids[:, : search.texts].clone()
    found_score, found_length = (
        torch.zeros(found.shape[:2], dtype=kind, device=device) for kind in (torch.float32, torch.long)
    )
    score = torch.full((count, width), NEVER, device=device)
    score[:, 0] = 0
    done_ids, done_score = ids.clone(), torch.full_like(score, NEVER)
    done_length, done = torch.zeros_like(score, dtype=torch.long), torch.zeros_like(score, dtype=torch.bool)
    parents = torch.zeros(count, width, longest, dtype=torch.long, device=device)
    for step in range(longest):
        length = step + 1
        best, tokens = (values.expand(-1, width, -1) for values in _log_probabilities(logits, kept))
        best, place = (best + score[:, :, None]).flatten(1).topk(kept)
        beam, token = place // tokens.shape[2], tokens.flatten(1).gather(1, place)
        grown = _take(ids, beam)
        grown[:, :, step] = token
        ends = torch.isin(token, ends_at) if length < longest else torch.ones_like(token, dtype=torch.bool)

        going = best + ends * NEVER
        following = going.topk(width).indices
        ids, score = _take(grown, following), going.gather(1, following)
        parents = _take(parents, beam.gather(1, following))
        parents[:, :, step] = slots

        ended = ends & (torch.arange(kept, device=device) < width)
        full = done.all(1, keepdim=True) & search.early_stopping
        final = best / length**search.length_penalty + full * NEVER + ~ended * NEVER
        done_score, order = torch.cat([done_score, final], 1).topk(width)
        done_ids = _take(torch.cat([done_ids, grown], 1), order)
        done_length = torch.cat([done_length, torch.full_like(token, length)], 1).gather(1, order)
        done = torch.cat([done, ended], 1).gather(1, order)

        # an input is closed when its best open beam, at today's length, is below every finished one
        worst = torch.where(done, done_score.min(1, keepdim=True).values, NEVER)
        closed = ~(score[:, :1] / length**search.length_penalty > worst).any(1)
        closed |= (done.all(1) & search.early_stopping) | (length == longest)
        if closed.any():
            shut, still = rows[closed], ~closed
            best_done = (closed, slice(search.texts))
            found[shut], found_score[shut] = done_ids[best_done], done_score[best_done]
            found_length[shut] = done_length[best_done]
            if closed.all():
                break
            decoding.keep(still)
            rows, ids, score, parents = rows[still], ids[still], score[still], parents[still]
            done_ids, done_score, done_length, done = (x[still] for x in (done_ids, done_score, done_length, done))
        logits = decoding.step(ids[:, :, step], parents[:, :, :length])
    return found[:, :, : int(found_length.max())].flatten(0, 1), found_score.flatten()


def _log_probabilities(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` best tokens of (B, beams, V) logits: (B, beams, count) log-probabilities and ids."""
    best, tokens = logits.log_softmax(-1).topk(min(count, logits.shape[-1]))
    return best, tokens


def _take(values: Tensor, order: Tensor) -> Tensor:
    """(B, n, T) rows in the (B, m) order."""
    return values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))
