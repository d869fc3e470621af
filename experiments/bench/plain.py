"""The plain way: open_clip's and transformers' own calls, float32, nothing computed ahead, as most public code does it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def embed(clip: Any, tokenize: Any, captions: Sequence[str], batch_size: int = 32) -> Tensor:
    """(N, D) unit rows: every caption at the full context."""
    batches = [captions[start : start + batch_size] for start in range(0, len(captions), batch_size)]
    return F.normalize(torch.cat([clip.encode_text(tokenize(list(batch))) for batch in batches]), dim=-1)


class Training:
    """CLOSE's training loop: the text tower in every step, default AdamW, targets padded to the batch's longest.

    A decoder-only model reads [prefix ; target], as in ClipCap's own code.
    """

    def __init__(self, clip: Any, tokenize: Any, lm: Any, tokenizer: Any, prefix: torch.nn.Linear) -> None:
        self.clip, self.tokenize, self.lm, self.tokenizer, self.prefix = clip, tokenize, lm.train(), tokenizer, prefix
        self.optimizer = torch.optim.AdamW([*lm.parameters(), *prefix.parameters()], lr=1e-4)

    def step(self, captions: Sequence[str], noise: float = 0.08) -> float:
        """One optimizer step; the loss."""
        embeds = embed(self.clip, self.tokenize, captions, len(captions))
        noisy = F.normalize(embeds + noise * torch.randn_like(embeds), dim=-1)
        prompt = self.prefix(noisy).unflatten(-1, (-1, self.lm.config.hidden_size))
        target = self.tokenizer(list(captions), padding=True, return_tensors="pt")
        labels = target.input_ids.masked_fill(target.attention_mask == 0, -100)
        if not self.lm.config.is_encoder_decoder:
            ignored = torch.full(prompt.shape[:2], -100)
            labels = torch.cat([ignored, labels], dim=1)
            prompt = torch.cat([prompt, self.lm.get_input_embeddings()(target.input_ids)], dim=1)
        loss = self.lm(inputs_embeds=prompt, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.lm.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def epoch(self, captions: Sequence[str], batch_size: int, seed: int = 0) -> None:
        """Every caption once, in random order."""
        order = random.Random(seed).sample(captions, len(captions))
        for start in range(0, len(order), batch_size):
            self.step(order[start : start + batch_size])


@torch.no_grad()
def caption(
    lm: Any, tokenizer: Any, prefix: torch.nn.Linear, embeds: Tensor, **settings: Any
) -> tuple[list[str], Tensor]:
    """Texts and beam scores of unit embeddings, by transformers' generate."""
    prompt = prefix(embeds).unflatten(-1, (-1, lm.config.hidden_size))
    mask = torch.ones(prompt.shape[:2], dtype=torch.long)
    output = lm.eval().generate(
        inputs_embeds=prompt, attention_mask=mask, return_dict_in_generate=True, output_scores=True, **settings
    )
    return tokenizer.batch_decode(output.sequences, skip_special_tokens=True), output.sequences_scores


@torch.no_grad()
def caption_photos(
    clip: Any, transform: Any, lm: Any, tokenizer: Any, prefix: torch.nn.Linear, photos: Sequence[Path], **settings: Any
) -> list[str]:
    """Texts of picture files."""
    pixels = torch.stack([transform(Image.open(photo).convert("RGB")) for photo in photos])
    embeds = F.normalize(clip.encode_image(pixels), dim=-1)
    return caption(lm, tokenizer, prefix, embeds, **settings)[0]
