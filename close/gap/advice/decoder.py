"""A linear decoder in place of the language model: solved instead of trained, for every noise at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from close.gap.advice.halves import Half
from close.vectors.checked import Floats

__all__ = ["COSINES", "agreement", "agreement_behind", "ceiling"]

COSINES = tuple(round(math.cos(math.radians(angle)), 3) for angle in range(0, 81, 3))
"""The noises that are tried, as cosines: every 3 degrees."""
RIDGE = 1e-3  # of the mean variance: no trained network amplifies a direction that it has hardly seen


def agreement_behind(half: Half, spec: Any, seed: int) -> tuple[Floats, float]:
    """Agreement at each of `COSINES`, and √E‖x‖² of the sources that the noise is added to."""
    sources, images = _adapted(half, spec, seed)
    return agreement(sources, half.targets, images, half.truth), float(np.sqrt((sources**2).sum(axis=1).mean()))


def _adapted(half: Half, spec: Any, seed: int) -> tuple[Floats, Floats]:
    """Sources as they are trained on, raw and without the Gaussian noise to come, and images as the model will get them."""
    if spec is None:
        return half.sources.astype(np.float64), half.images.astype(np.float64)
    import torch

    from close.adapters import RowNoise, build_adapter, row_seeds

    adapter = build_adapter(spec, half.sources.shape[1])
    if "paired" in adapter.all_needs:
        adapter.fit(text=half.fit["paired_text"], image=half.fit["paired_image"], quiet=True)
    else:
        adapter.fit(text=half.fit["text"], image=half.fit.get("image"), groups=half.fit["groups"], quiet=True)
    seeds = row_seeds(seed, 0, torch.arange(len(half.sources)))
    with torch.no_grad():
        sources = adapter.text(torch.from_numpy(half.sources), RowNoise(seeds)).double().numpy()
        images = adapter.eval()(torch.from_numpy(half.images), "image").double().numpy()
    return sources, images


def ceiling(half: Half) -> float:
    """The best of the same decoder, trained on the other half's images."""
    sources, targets = half.fit["paired_image"].astype(np.float64), half.fit["paired_text"].astype(np.float64)
    return float(agreement(sources, targets, half.images.astype(np.float64), half.truth).max())


def agreement(sources: Floats, targets: Floats, images: Floats, truth: Floats) -> Floats:
    """(len(COSINES),) mean cosine of what the linear decoder makes of the images with what is true, both centred.

    Args:
        sources, targets: (N, D) what it learns from. images: (M, D) unit rows. truth: (M, D).
    """
    mean, middle, dim = sources.mean(axis=0), targets.mean(axis=0), sources.shape[1]
    x, y = sources - mean, targets - middle
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    values = values.clip(0)
    decode = vectors.T @ (x.T @ y / len(x))
    size = float((sources**2).sum(axis=1).mean())
    wanted = _unit(truth - middle)
    out = []
    for cosine in COSINES:
        kept = 1 / (values + size * (cosine**-2 - 1) / dim + RIDGE * values.mean())
        decoded = ((images * (np.sqrt(size) / cosine) - mean) @ vectors * kept) @ decode
        out.append((_unit(decoded) * wanted).sum(axis=1).mean())
    return np.array(out)


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12))
