"""IFCap's prefix at its own size: one vector and five neighbours of 512 numbers become ten tokens of GPT-2's width."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from close.model.prefixes import build_prefix
from experiments.bench.floors import Work, counted
from experiments.bench.parts import Timed, Variants, timed

SIZES = {"full": (512, 768, 50), "small": (64, 128, 5)}
"""Numbers of a vector, width of the language model, and batches of a round."""
BATCH, NEIGHBOURS = 8, 5


def fusion(size: str) -> tuple[Variants, dict[str, Any]]:
    """In float32, with the work of an item: the weights come from memory once a batch."""
    width, hidden, times = SIZES[size]
    torch.manual_seed(0)
    prefix = build_prefix({"kind": "fusion"}, width, hidden).eval()
    given = torch.randn(BATCH, 1 + NEIGHBOURS, width), torch.ones(BATCH, 1 + NEIGHBOURS, dtype=torch.bool)

    @torch.inference_mode()
    def repeated() -> None:
        for _ in range(times):
            prefix(*given)

    with torch.inference_mode():
        operations = counted(lambda: prefix(*given))
    moved = sum(weight.nbytes for weight in prefix.parameters()) / BATCH
    work = Work(operations / BATCH, moved, "fp32")

    def run(number: int) -> Timed:
        return timed(repeated)[0], BATCH * times, {}

    return {"auto": run}, {"auto": asdict(work)}
