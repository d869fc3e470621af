"""Can a straight cut tell the modalities apart?"""

from __future__ import annotations

from typing import Any

import numpy as np

from close.errors import DataError
from close.gap.measures.base import MEASURES, Family, Measure
from close.gap.modalities import Modalities, drawn_together
from close.vectors.checked import Ints, Pairs, matrices, pair_index

__all__ = ["separability"]

BELOW_CHANCE = "below 0.5: what tells the modalities apart in one half misleads in the other; read as 0.5"


def separability(text: Any, image: Any, pairs: Pairs = None, *, seed: int = 0) -> float:
    """Held-out accuracy of logistic regression that tells images from texts (Shi et al., 2023; Schrodi et al., 2025).

    A random half of the images trains with its texts, the other half tests, so that no image is on both sides. Both modalities
    weigh the same, in training and in the (balanced) accuracy; L2 penalty C = 1 on unit rows. Iterative; a report takes a sample.

    Healthy: .5 can't be told apart; 1 for every CLIP model as it comes.

    Raises:
        DataError: fewer than 4 images or texts.
    """
    text, image = matrices(text, image)
    index = pair_index(pairs, len(text), len(image))
    return split_accuracy(text, image, drawn_together(index, len(text), len(image)), seed)


def split_accuracy(text: Any, image: Any, clusters: tuple[Ints, Ints], seed: int) -> float:
    """`separability` with texts and images that are kept together by `drawn_together`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    if min(len(text), len(image)) < 4:
        raise DataError(f"needs at least 4 texts and 4 images; there are {len(text)} and {len(image)}")
    order = np.random.default_rng(seed).permutation(int(max(side.max() for side in clusters)) + 1)
    half = np.zeros(len(order), bool)
    half[order[::2]] = True
    train = half[np.concatenate(clusters)]
    label = np.repeat([0, 1], (len(text), len(image)))
    if any(len(set(label[part])) < 2 for part in (train, ~train)):
        raise DataError("a half without one of the modalities: too few images have texts to hold some out")
    rows = np.concatenate((text, image))
    model = LogisticRegression(class_weight="balanced", max_iter=200)
    model.fit(rows[train], label[train])
    return float(balanced_accuracy_score(label[~train], model.predict(rows[~train])))


@MEASURES.register(
    Measure(
        "separability",
        Family.DISTANCE,
        "Linear separability",
        "held-out accuracy, image or text?",
        "0.5–0.65; every CLIP model 1.0",
        high=0.65,
        scale=(0.5, 1.0),
        sample=("text", "image"),
        remark=lambda accuracy: BELOW_CHANCE if accuracy < 0.5 else "",
        source="Shi et al., 2023; Schrodi et al., ICLR 2025",
        misleads="The smallest shift along a direction without spread gives 1.0: it says that there is a gap, not "
        "that it does harm.",
    )
)
def _separability(data: Modalities, seed: int) -> float:
    return split_accuracy(data.text, data.image, (data.clusters, data.image_clusters), seed)
