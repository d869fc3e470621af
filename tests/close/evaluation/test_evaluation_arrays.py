"""CLIPScore, diversity and zero-shot measures against loops and cases counted by hand."""

import numpy as np
import pytest

from close.errors import DataError
from close.evaluation.classification import class_embeddings, class_probabilities
from close.evaluation.metrics.clip_score import clip_scores
from close.evaluation.metrics.diversity import diversity


def vectors(rows: int, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a.astype(float) @ b.astype(float) / np.linalg.norm(a.astype(float)) / np.linalg.norm(b.astype(float)))


def test_clip_score_row_by_row() -> None:
    images, captions = vectors(30), vectors(30, seed=1)
    references = [vectors(1 + n % 4, seed=n + 2) for n in range(30)]
    scores = clip_scores(images, captions, references)
    for n in range(30):
        fit = 2.5 * max(cosine(images[n], captions[n]), 0)
        near = max(max(cosine(captions[n], r), 0) for r in references[n])
        both = 2 * fit * near / (fit + near) if fit and near else 0
        assert scores["clip_score"].per_example[n] == pytest.approx(100 * fit, abs=1e-4)
        assert scores["ref_clip_score"].per_example[n] == pytest.approx(100 * both, abs=1e-4)
    assert scores["clip_score"].value == pytest.approx(scores["clip_score"].per_example.mean())


def test_clip_score_of_a_perfect_and_of_an_opposite_caption() -> None:
    one = vectors(1)
    assert clip_scores(one, 3 * one)["clip_score"].value == pytest.approx(250)
    assert clip_scores(one, -one, [one])["ref_clip_score"].value == 0


@pytest.mark.parametrize(
    ("images", "captions", "references", "message"),
    [
        (vectors(3), vectors(4), None, r"\(3, 16\)"),
        (vectors(3), vectors(3), [vectors(1)], "1 sets"),
        (vectors(2), vectors(2), [vectors(1), vectors(0)], "row 1"),
        (vectors(2), np.zeros((2, 16)), None, "captions: row 0"),
        (np.full((2, 16), np.nan), vectors(2), None, "images: row 0"),
    ],
)
def test_clip_score_refuses(images: np.ndarray, captions: np.ndarray, references: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        clip_scores(images, captions, references)  # type: ignore[arg-type]


def test_diversity_counted_by_hand() -> None:
    found = diversity(["A dog runs.", "a dog runs", "A cat!", ""], training=["a cat .", "the bus"])
    assert found["distinct_1"] == 100 * 4 / 8  # a, dog, runs, cat of 3 + 3 + 2 words
    assert found["distinct_2"] == 100 * 3 / 5
    assert found["vocabulary"] == 4
    assert found["unique"] == 75
    assert found["novel"] == 75
    assert found["length"] == {"mean": 2, "sd": pytest.approx(np.std([3, 3, 2, 0])), "min": 0, "max": 3}
    assert found["empty"] == 1
    assert diversity(["a dog"])["novel"] is None
    assert diversity([""])["distinct_1"] == 0
    with pytest.raises(DataError):
        diversity([])


def unit(rows: int, seed: int = 0) -> np.ndarray:
    found = vectors(rows, seed=seed)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_class_probabilities() -> None:
    classes = class_embeddings([unit(3, seed=n) for n in range(5)])
    np.testing.assert_allclose(np.linalg.norm(classes, axis=1), 1, atol=1e-6)
    images = unit(20, seed=9)
    found = class_probabilities(images, classes, scale=20)
    for image, row in zip(images, found, strict=True):
        powers = [np.exp(20 * cosine(image, c)) for c in classes]
        np.testing.assert_allclose(row, np.array(powers) / sum(powers), atol=1e-5)


def test_different_widths_are_refused() -> None:
    with pytest.raises(DataError, match="can't be compared"):
        class_probabilities(unit(2), vectors(2, 8))
