"""Answers from a closed set: decoded over a prefix tree, or scored exactly one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from close.data.rows import Modality
from close.errors import RecipeError
from close.model.language_models.base import IGNORED, LanguageModelKind
from close.model.language_models.encoder_decoder import EncoderDecoder
from close.model.modeling import CloseModel
from close.model.sets import Sets

__all__ = ["LabelTree", "label_scores"]

_LABEL = -1
"""What a node of a tree has, where it ends a label, beside the tokens that may follow."""


class LabelTree:
    """Keeps generation inside a set of texts, through generate's own `prefix_allowed_tokens_fn` (as OFA's trie does).

    Args:
        tokenizer: the language model's. labels: the texts that may come out. kind: the model's.
        lowercase: the model has learnt its texts in lower case, and reads labels so.
    Raises:
        RecipeError: no labels, or two that the tokenizer can't tell apart.
    """

    def __init__(
        self,
        tokenizer: Any,
        labels: Sequence[str],
        kind: LanguageModelKind | None = None,
        *,
        lowercase: bool = False,
    ) -> None:
        kind = kind or EncoderDecoder()
        self.sequences = _token_ids(kind, tokenizer, labels, lowercase=lowercase)
        self.given = kind.given
        self.root: dict[int, Any] = {}
        for label, ids in zip(labels, self.sequences, strict=True):
            node = self.root
            for token in ids:
                node = node.setdefault(token, {})
            node[_LABEL] = label
        self.end = [kind.end(tokenizer)]

    @property
    def longest(self) -> int:
        """Tokens of the longest label, its end token included."""
        return max(map(len, self.sequences))

    def __call__(self, batch: int, generated: Tensor) -> list[int]:
        """Tokens that may follow what has been generated (a decoder's start token first)."""
        node = self.root
        for token in generated[self.given :].tolist():
            if token not in node:
                return self.end
            node = node[token]
        return [token for token in node if token != _LABEL] or self.end

    def label(self, generated: Sequence[int]) -> str | None:
        """The label that generated ids say, as it was given; None where they say none, cut by fewer new tokens than it has."""
        node = self.root
        for token in generated[self.given :]:
            if token not in node:
                break
            node = node[token]
        return node.get(_LABEL)


def _token_ids(
    kind: LanguageModelKind, tokenizer: Any, labels: Sequence[str], *, lowercase: bool = False
) -> list[list[int]]:
    if not labels:
        raise RecipeError("a closed set of answers needs at least one label")
    sequences = kind.targets(tokenizer, [label.lower() for label in labels] if lowercase else labels)
    seen: dict[tuple[int, ...], str] = {}
    for label, ids in zip(labels, sequences, strict=True):
        other = seen.setdefault(tuple(ids), label)
        if other != label and lowercase and other.lower() == label.lower():
            raise RecipeError(f"this run reads labels in lower case, where {other!r} and {label!r} are the same")
        if other != label:
            raise RecipeError(f"the tokenizer makes the same tokens of the labels {other!r} and {label!r}")
    return sequences


@torch.inference_mode()
def label_scores(
    model: CloseModel,
    tokenizer: Any,
    embeds: Tensor | Sets,
    labels: Sequence[str],
    *,
    modality: Modality = "image",
    normalise: bool = False,
    batch_size: int = 512,
    context: Mapping[str, Tensor] | None = None,
    lowercase: bool = False,
) -> Tensor:
    """Log-likelihood of every label for every row; the softmax over labels gives probabilities.

    A prompt is read once; behind it, the labels alone.

    Args:
        embeds: (B, D) unit rows, or items of several vectors. context: `context_ids` and `context_mask`, (B, L).
        normalise: divide by the label's length in tokens.
        batch_size: labels behind prompts at a time. lowercase: see `LabelTree`.
    Returns:
        (B, number of labels) float32: summed log-probabilities of the label's tokens, its end token included.
    Raises:
        RecipeError: no labels, two that the tokenizer can't tell apart, or one that the language model has no places for.
    """
    sequences = _token_ids(model.kind, tokenizer, labels, lowercase=lowercase)
    device = model.device
    targets = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in sequences], True, IGNORED).to(device)
    items = Sets.of(embeds)
    prompt = model.prompt(items.embeds, modality, **items.inputs, **(context or {}))
    model.check_places(prompt[0].shape[1], targets.shape[1], "tokens of the longest label:")
    logits_behind = model.kind.behind(model.language_model, *prompt)
    rows = torch.arange(len(embeds), device=device).repeat_interleave(len(labels))
    columns = torch.arange(len(labels), device=device).repeat(len(embeds))
    scores = []
    for row, column in zip(rows.split(batch_size), columns.split(batch_size), strict=True):
        wanted = targets[column]
        logits = logits_behind(row, wanted)
        counts = wanted != IGNORED
        chosen = logits.float().log_softmax(-1).gather(-1, wanted.clamp(min=0)[..., None])[..., 0] * counts
        scores.append(chosen.sum(-1) / counts.sum(-1) if normalise else chosen.sum(-1))
    return torch.cat(scores).view(len(embeds), len(labels)).cpu()
