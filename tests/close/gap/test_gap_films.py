"""Texts that have several images each, as films of frames have: what hangs together counts once."""

import re

import numpy as np
import pytest

from close.errors import DataError
from close.gap import measure_gap, recommend
from close.gap.adapted import adapt
from close.gap.measures.shifted_loss import shifted_loss
from close.gap.modalities import Modalities, distinct_pairs, drawn_together

FILMS = 60


def films(frames: int, seed: int, related: float = 0.0):
    """Text, image and pairs of films whose frames hardly differ; texts have to do with them as far as `related`."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(FILMS, 16))
    text = related * content + rng.normal(size=(FILMS, 16))
    image = np.repeat(content, frames, axis=0) + 0.05 * rng.normal(size=(FILMS * frames, 16))
    return text, image, np.stack((np.repeat(np.arange(FILMS), frames), np.arange(FILMS * frames)), axis=1)


def test_images_of_the_same_texts_have_one_number():
    pairs = np.array([[0, 1], [1, 1], [1, 2], [3, 0], [5, 4], [5, 5]])
    texts, images = drawn_together(pairs, 6, 6)
    assert images.tolist() == [0, 1, 2, 3, 4, 4]  # 1 and 2 share a text, and 1 has one of its own
    assert texts.tolist() == [1, 1, 5, 0, 6, 4]
    texts, images = drawn_together(pairs, 6, 6, ["a", "b", "c", "a", "c", "d"])
    assert images.tolist() == [0, 0, 1, 2, 3, 3]
    assert texts.tolist() == [0, 0, 4, 0, 4, 3]
    assert distinct_pairs(pairs).tolist() == [[3, 0], [0, 1], [1, 2], [5, 4]]


def test_captions_that_fit_other_images_too_link_none():
    """Captions of one image are those they were, and images are drawn one by one, though some captions have several."""
    rng = np.random.default_rng(0)
    text, image, own = rng.normal(size=(400, 8)), rng.normal(size=(100, 8)), np.arange(400) // 4
    pairs = np.stack((np.arange(400), own), axis=1)
    shared = 4 * np.arange(1, 51) + 1
    more = np.concatenate((pairs, np.stack((shared, own[shared] + rng.integers(1, 40, size=50)), axis=1)))
    plain, found = (Modalities.of(text, image, which) for which in (pairs, more))
    for name in ("groups", "clusters", "image_clusters"):
        assert getattr(found, name).tolist() == getattr(plain, name).tolist()
    assert found.groups.tolist() == own.tolist()
    wide = Modalities.of(text, image, more, [f"image {v}" for v in own])
    assert wide.image_clusters.tolist() == plain.image_clusters.tolist()
    reports = [measure_gap(text, image, pairs=which, bootstrap=20) for which in (pairs, more)]
    for name in ("cosine.same_image_captions.mean", "caption_spread.std", "separability"):
        assert reports[1][name] == reports[0][name]
    assert reports[1].intervals["cone.image"] == reports[0].intervals["cone.image"]


def test_frames_hang_together_though_their_text_is_not_drawn():
    text, image, pairs = films(8, 0)
    data = Modalities.of(text, image, pairs)
    some = data.drawn(np.array([3, 50]), np.arange(80))
    assert some.image_clusters.tolist() == np.repeat(np.arange(10), 8).tolist()
    assert some.clusters.tolist() == [3, 10]


def test_frames_of_a_film_are_no_films_of_their_own():
    reports = {
        frames: [
            measure_gap(text, image, pairs=pairs, bootstrap=100 * (seed < 2))
            for seed in range(5)
            for text, image, pairs in [films(frames, seed)]
        ]
        for frames in (1, 8)
    }
    one, eight = (
        {name: np.mean([report[name] for report in found]) for name in ("neighbour_agreement", "separability")}
        for found in reports.values()
    )
    assert eight["neighbour_agreement"] == pytest.approx(one["neighbour_agreement"], abs=0.03)
    assert eight["separability"] == pytest.approx(one["separability"], abs=0.04)
    wide = [np.ptp(reports[frames][0].intervals["cosine.image_image.mean"]) for frames in (1, 8)]
    assert wide[1] == pytest.approx(wide[0], rel=0.25)
    assert reports[8][0].curves["search"]["queries"] == FILMS
    few = measure_gap(*films(8, 0)[:2], pairs=films(8, 0)[2], sample=100, bootstrap=0)
    assert "neighbour_agreement" not in few.notes  # 60 pairs of films are all


def test_sibling_frames_are_no_wrong_answers_to_the_loss():
    assert min(shifted_loss(*films(8, 0, related=50)).loss) < 0.01


def test_frames_of_a_film_lie_in_one_half():
    """Fitted on the half without them, a ridge map finds no frames by their siblings; what is all one has no halves."""
    text, image, pairs = films(8, 0)
    after = adapt(Modalities.of(text, image, pairs), {"linear": {"method": "ridge"}})
    dots = (after.text[pairs[:, 0]] * after.image[pairs[:, 1]]).sum(axis=1)
    assert abs(dots.mean()) < 0.25
    with pytest.raises(DataError, match="each needs 2 texts and 2 images"):
        adapt(Modalities.of(text, image, pairs, ["one"] * FILMS), "mean_shift")


def test_halves_that_differ_in_size_are_told():
    """Three of four films have one group: all of them are carried by what was fitted on the others."""
    text, image, pairs = films(8, 0)
    labels = np.maximum(np.arange(FILMS), 45)
    after = adapt(Modalities.of(text, image, pairs, labels), "mean_shift")
    told = re.match(r"fitted on (\d+) of 480 images", after.notes["adapter"])
    assert told
    assert int(told[1]) < 160
    assert "adapter" not in adapt(Modalities.of(text, image, pairs), "mean_shift").notes


def test_a_few_rows_have_no_halves():
    text, image, _ = films(1, 0)
    told = set()
    for seed in range(20):
        try:
            adapt(Modalities.of(text[:4], image[:4], "unpaired"), "mean_shift", seed=seed)
        except DataError as error:
            told.add(str(error).split(":")[0])
    assert told == {"an adapter is fitted on one half and tried on the other, and each needs 2 texts and 2 images"}


def test_advice_searches_once_a_film():
    text, image, pairs = films(8, 0, related=2)
    assert recommend(text, image, pairs=pairs).search["queries"] == FILMS
