"""CLIPScore and RefCLIPScore: how well a caption fits its image, by the contrastive encoder itself.

Hessel et al. (2021), "CLIPScore: A Reference-free Evaluation Metric for Image Captioning".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from close.errors import DataError, RecipeError
from close.evaluation.bootstrap import SummedScore, mean_score
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score
from close.vectors.checked import refuse_bad_rows

__all__ = ["clip_score", "clip_scores"]

WEIGHT = 2.5


def clip_scores(
    images: NDArray[Any], captions: NDArray[Any], references: Sequence[NDArray[Any]] | None = None
) -> dict[str, SummedScore]:
    """CLIPScore 100·2.5·max(cos(caption, image), 0), and with references RefCLIPScore.

    RefCLIPScore is the harmonic mean of 2.5·max(cos(caption, image), 0) and the largest max(cos(caption, reference), 0), so that
    it may reach 143.
    The authors put "A photo depicts " before captions and references before embedding them, and used CLIP ViT-B/32.

    Args:
        images, captions: (N, D), rows of any length but zero.
        references: N arrays (R_i, D).
    Returns:
        `clip_score` and, with references, `ref_clip_score`.
    Raises:
        DataError: shapes do not fit, or a row is zero or not finite.
    """
    if images.shape != captions.shape or images.ndim != 2:
        raise DataError(f"images are {images.shape} and captions {captions.shape}; both are (N, D)")
    captions = _unit(captions, "captions")
    fit = WEIGHT * np.maximum((_unit(images, "images") * captions).sum(axis=1), 0)
    scores = {"clip_score": mean_score(100 * fit)}
    if references is not None:
        if len(references) != len(captions):
            raise DataError(f"there are {len(references)} sets of references for {len(captions)} captions")
        near = np.array([_nearest(c, r, i) for i, (c, r) in enumerate(zip(captions, references, strict=True))])
        with np.errstate(invalid="ignore", divide="ignore"):
            both = np.where((fit > 0) & (near > 0), 2 * fit * near / (fit + near), 0.0)
        scores["ref_clip_score"] = mean_score(100 * both)
    return scores


def _nearest(caption: NDArray[Any], references: NDArray[Any], row: int) -> float:
    if references.ndim != 2 or not len(references) or references.shape[1] != len(caption):
        raise DataError(
            f"references of row {row} are {references.shape}, expected (R, {len(caption)}) with R of 1 or more"
        )
    return max(0.0, float((_unit(references, f"references of row {row}") @ caption).max()))


def _unit(vectors: NDArray[Any], what: str) -> NDArray[Any]:
    vectors = vectors.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    refuse_bad_rows(norms[:, 0], slice(None), f"{what}:")
    return vectors / norms


@METRICS.register(
    Metric(
        "clip_score",
        "caption",
        (
            Score("clip_score", "CLIPScore", scale=(0, 100 * WEIGHT)),
            Score("ref_clip_score", "RefCLIPScore", scale=(0, 200 * WEIGHT / (1 + WEIGHT))),
        ),
        needs=("encoder",),
        source="Hessel et al., EMNLP 2021",
    )
)
def clip_score(inputs: Inputs) -> dict[str, Any]:
    """CLIPScore and RefCLIPScore by the run's own encoder, with the authors' words before each text; 0 where nothing is said.

    Raises:
        RecipeError: no run is scored, so there is no encoder.
    """
    if inputs.encoder is None or inputs.image_vectors is None:
        raise RecipeError("clip_score needs the encoder and the images of a run: ask for it in `close evaluate`")
    spoken = np.array([bool(inputs.predictions[key].strip()) for key in inputs.ids])
    ids = [key for key, said in zip(inputs.ids, spoken, strict=True) if said]  # the others may have no picture
    texts = [inputs.predictions[key] for key in ids]
    references = [inputs.references[key] for key in ids]
    every = list(dict.fromkeys([*texts, *(text for several in references for text in several)]))
    values = {key: np.zeros(len(spoken)) for key in ("clip_score", "ref_clip_score")}
    if ids:
        vectors = inputs.encoder.encode_text([f"A photo depicts {text}" for text in every]).numpy()
        place = {text: index for index, text in enumerate(every)}
        scores = clip_scores(
            inputs.image_vectors(ids),
            vectors[[place[text] for text in texts]],
            [vectors[[place[text] for text in several]] for several in references],
        )
        for key, score in scores.items():
            values[key][spoken] = score.per_example
    return {**{key: mean_score(single) for key, single in values.items()}, "clip_score_encoder": inputs.encoder.name}
