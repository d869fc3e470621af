"""Both modalities as an adapter leaves them, so that the gap can be measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from close.errors import DataError, MismatchError
from close.gap.modalities import Modalities
from close.vectors.checked import Array, Ints

__all__ = ["adapt"]

BATCH = 8192
LEAST = 2
"""Texts, and images, that each half has at least."""


def adapt(modalities: Modalities, spec: Any, *, fingerprint: str | None = None, seed: int = 0) -> Modalities:
    """The sides seen through an adapter: texts as in training, with noise, and images as at test time.

    What the adapter learns from these very rows is learnt honestly: images are halved at random, with their texts (and the
    other images of these), and each half is carried by an adapter fitted on the other; so are texts that a recipe would
    take from its training data (`shared`, `{mean_shift: {fit: {image: V}}}`). What was fitted before, by data that it names
    (`fit: …`, `load: …`) or as an object, is taken as it is: on rows that it was fitted on it looks better than it is.

    Behind a memory an image is made of texts of the other half, so that none finds its own: recall is left out. So is the search
    among texts, which a run does with vectors that no adapter has moved.

    Args:
        spec: as in a recipe, or an adapter, which is left as it was.
        fingerprint: of the encoder, which a saved adapter has to share.
    Raises:
        UnknownNameError, RecipeError, MissingError, MismatchError: the spec is wrong, or the adapter is of another width.
        DataError: the adapter needs pairs, and there are none; pairs and groups leave no halves to fit it on.
    """
    from close.adapters import build_adapter, check_adapter, resolve_adapter
    from close.adapters.resolve import takes_training_text

    check_adapter(spec)
    dim = modalities.text.shape[1]
    if _names_data(spec):
        halved, new = takes_training_text(spec), _remembers(spec)

        def fit(texts: Ints, images: Ints) -> Any:
            rows, labels = modalities.text[texts], modalities.groups[texts]
            return resolve_adapter(spec, dim, fingerprint, text=rows, groups=lambda: labels)
    else:
        own = build_adapter(spec, dim)
        if own.dim != dim:
            raise MismatchError(f"adapter {own.name!r} is for {own.dim} dimensions, and the embeddings have {dim}")
        halved, new = not own.is_fitted, any(not part.is_fitted for part in _memories(own))

        def fit(texts: Ints, images: Ints) -> Any:
            return _fitted(deepcopy(own), modalities, texts, images)

    every = np.arange(len(modalities.text)), np.arange(len(modalities.image))
    halves = _halves(modalities, seed) if halved else [every]
    adapters = [fit(*there) for there in reversed(halves)]
    text, image = np.empty_like(modalities.text), np.empty_like(modalities.image)
    for adapter, (texts, images) in zip(adapters, halves, strict=True):
        text[texts] = _through(adapter, modalities.text, texts, "text", seed)
        image[images] = _through(adapter, modalities.image, images, "image", seed)
    notes = {**modalities.notes, **_uneven([len(images) for _, images in halves])}
    return replace(modalities, text=text, image=image, adapted=True, remade=halved and new, notes=notes)


def _memories(adapter: Any) -> list[Any]:
    from close.adapters.memory import TextMemory

    return [part for part in adapter.modules() if isinstance(part, TextMemory)]


def _remembers(spec: Any) -> bool:
    """Whether a stage is a memory of the training text."""
    from close.adapters import ADAPTERS
    from close.adapters.memory import TextMemory
    from close.adapters.resolve import takes_training_text
    from close.adapters.specs import leaves_of, split_spec

    learning = filter(takes_training_text, leaves_of(spec))
    return any(issubclass(ADAPTERS[split_spec(stage)[0]], TextMemory) for stage in learning)


def _names_data(spec: Any) -> bool:
    from close.adapters.specs import leaves_of

    named = [stage for stage in leaves_of(spec) if isinstance(stage, Mapping)]
    given = [options for stage in named for options in stage.values() if isinstance(options, Mapping)]
    return any("load" in stage for stage in named) or any("fit" in options for options in given)


def _halves(modalities: Modalities, seed: int) -> list[tuple[Ints, Ints]]:
    """Two (text rows, image rows) that share no image; not the halves of `separability`, or it would see what the fit left."""
    clusters = modalities.clusters, modalities.image_clusters
    half = np.zeros(int(max(side.max() for side in clusters)) + 1, bool)
    half[np.random.default_rng([seed, 1]).permutation(len(half))[::2]] = True
    texts, images = (half[side] for side in clusters)
    if any(np.bincount(side, minlength=2).min() < LEAST for side in (texts, images)):
        raise DataError(
            f"an adapter is fitted on one half and tried on the other, and each needs {LEAST} texts and {LEAST} images: there "
            f"are too few ({len(texts)} and {len(images)}), or most are of one group; give a fitted adapter (load: FOLDER)"
        )
    return [(np.flatnonzero(texts == side), np.flatnonzero(images == side)) for side in (True, False)]


def _uneven(images: Sequence[int]) -> dict[str, str]:
    """A note where one half has few images to fit an adapter on."""
    if 3 * min(images) >= sum(images):
        return {}
    few = f"fitted on {min(images)} of {sum(images)} images for the others: there are few images, or one text or group is of many"
    return {"adapter": f"{few}; what is learnt from so few may be worse than what is learnt from all"}


def _fitted(adapter: Any, modalities: Modalities, texts: Ints, images: Ints) -> Any:
    if adapter.is_fitted:
        return adapter
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
