"""Both modalities as an adapter leaves them, so that the gap can be measured again."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from close.errors import DataError, MismatchError
from close.gap.modalities import Modalities
from close.vectors.checked import Array, Ints

__all__ = ["adapt"]

BATCH = 8192


def adapt(modalities: Modalities, spec: Any, *, fingerprint: str | None = None, seed: int = 0) -> Modalities:
    """The sides seen through an adapter: texts as in training, with noise, and images as at test time.

    What the adapter learns from these very rows is learnt honestly: images are halved at random, with their texts (and the
    other images of these), and each half is carried by an adapter fitted on the other. What was fitted before, an adapter that
    names its data (`fit: …`, `load: …`) or a fitted object, is taken as it is: on rows that it was fitted on it looks better
    than it is. Behind a memory an image is made of texts of the other half, so that none finds its own: recall is left out.
    So is the search among texts, which a run does with vectors that no adapter has moved.

    Args:
        spec: as in a recipe, or an adapter, which is left as it was.
        fingerprint: of the encoder, which a saved adapter has to share.
    Raises:
        UnknownNameError, RecipeError, MissingError, MismatchError: the spec is wrong, or the adapter is of another width.
        DataError: the adapter needs pairs, and there are none.
    """
    from close.adapters import build_adapter, check_adapter, resolve_adapter
    from close.adapters.memory import TextMemory

    check_adapter(spec)
    dim = modalities.text.shape[1]
    text, image = np.empty_like(modalities.text), np.empty_like(modalities.image)
    adapter = resolve_adapter(spec, dim, fingerprint) if _names_data(spec) else deepcopy(build_adapter(spec, dim))
    if adapter.dim != dim:
        raise MismatchError(f"adapter {adapter.name!r} is for {adapter.dim} dimensions, and the embeddings have {dim}")
    if adapter.is_fitted:
        parts = [(adapter, np.arange(len(text)), np.arange(len(image)))]
    else:
        first, second = _halves(modalities, seed)
        parts = [
            (_fitted(deepcopy(adapter), modalities, *there), *here)
            for here, there in ((first, second), (second, first))
        ]
    for fitted, texts, images in parts:
        text[texts] = _through(fitted, modalities.text, texts, "text", seed)
        image[images] = _through(fitted, modalities.image, images, "image", seed)
    remade = any(isinstance(part, TextMemory) and not part.is_fitted for part in adapter.modules())
    return replace(modalities, text=text, image=image, adapted=True, remade=remade)


def _names_data(spec: Any) -> bool:
    if isinstance(spec, (list, tuple)):
        return any(map(_names_data, spec))
    if not isinstance(spec, Mapping):
        return False
    return "load" in spec or any(isinstance(options, Mapping) and "fit" in options for options in spec.values())


def _halves(modalities: Modalities, seed: int) -> list[tuple[Ints, Ints]]:
    """Two (text rows, image rows) that share no image; not the halves of `separability`, or it would see what the fit left."""
    clusters = modalities.clusters, modalities.image_clusters
    half = np.zeros(int(max(side.max() for side in clusters)) + 1, bool)
    half[np.random.default_rng([seed, 1]).permutation(len(half))[::2]] = True
    texts, images = (half[side] for side in clusters)
    if any(len(np.unique(side)) < 2 for side in (texts, images)):
        raise DataError(
            "pairs and groups link all texts and images, so that no half is left to fit an adapter on: give a fitted one "
            "(load: FOLDER)"
        )
    return [(np.flatnonzero(texts == side), np.flatnonzero(images == side)) for side in (True, False)]


def _fitted(adapter: Any, modalities: Modalities, texts: Ints, images: Ints) -> Any:
    if "paired" in adapter.all_needs:
        inside = modalities.pairs[np.isin(modalities.pairs[:, 0], texts) & np.isin(modalities.pairs[:, 1], images)]
        if len(inside) < 2:
            raise DataError(
                f"adapter {adapter.spec()!r} learns from pairs, and there are none; leave it out or give --pairs"
            )
        texts, images = inside.T
    return adapter.fit(text=modalities.text[texts], image=modalities.image[images], groups=modalities.groups[texts])


def _through(adapter: Any, rows: Array, chosen: Ints, modality: str, seed: int) -> Array:
    import torch

    from close.adapters import row_seeds

    adapter.train()
    parts = []
    with torch.no_grad():
        for start in range(0, len(chosen), BATCH):
            index = chosen[start : start + BATCH]
            seeds = row_seeds(seed, 0, torch.from_numpy(index))
            parts.append(adapter(torch.from_numpy(rows[index]), modality, seeds, noisy=modality == "text").numpy())
    return np.concatenate(parts)
