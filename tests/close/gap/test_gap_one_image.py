"""Captions of one image are its captions whatever says so: a `group`, the image's file, or pairs."""

import json

import numpy as np
import pytest

from close.errors import DataError
from close.gap.advice.advise import advise
from close.gap.advice.halves import Rows
from close.gap.measured_tables import measure_tables

PER, SCENES = 4, 60


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def world(copies):
    """Four captions of each of 60 scenes, or as many copies of one, and the image of each."""
    rng = np.random.default_rng(0)
    scene = rng.normal(size=(SCENES, 12)) + 1
    own = np.repeat(np.arange(SCENES), PER)
    text = unit(scene[own] + (0 if copies else 0.6) * rng.normal(size=(len(own), 12)))
    return text, unit(scene + 0.3 * rng.normal(size=scene.shape) - 2)[own], own


@pytest.fixture
def tables(tmp_path):
    """Rows of a caption and its image, with and without a `group`; called like it, the groups' order is that of the images."""

    def make(*, copies=False):
        text, image, own = world(copies)
        np.save(tmp_path / "T.npy", text)
        np.save(tmp_path / "V.npy", image)
        for name in ("groups", "images"):
            rows = [{"id": f"r{i}", "source": f"caption {i}", "image": f"{v}.png"} for i, v in enumerate(own)]
            more = [{"group": f"{v}.png"} if name == "groups" else {} for v in own]
            lines = [json.dumps(row | extra) + "\n" for row, extra in zip(rows, more, strict=True)]
            (tmp_path / f"{name}.jsonl").write_text("".join(lines))
        return tmp_path

    return make


@pytest.mark.parametrize("captions", ["single", "multiple"])
def test_rows_of_one_image_are_advised_on_as_those_of_one_group(tables, captions):
    folder = tables()
    by = [
        advise(folder / "T.npy", folder / "V.npy", pairs=folder / f"{name}.jsonl", captions=captions)[0].to_dict()
        for name in ("groups", "images")
    ]
    assert by[0] == by[1]
    texts = [advise(folder / "T.npy", groups=folder / f"{name}.jsonl")[0] for name in ("groups", "images")]
    assert texts[0] == texts[1]
    assert texts[1].data == "groups"


def test_rows_of_one_image_are_measured_as_those_of_one_group(tables):
    folder = tables()
    sources = [("x", folder / "T.npy", folder / "V.npy")]
    by = [
        measure_tables(sources, pairs=folder / f"{name}.jsonl", bootstrap=0)[0].report for name in ("groups", "images")
    ]
    assert by[0].to_dict() == by[1].to_dict()
    assert by[1]["cosine.same_image_captions.mean"] > 0.5
    assert by[1]["caption_spread.std"] > 0


def test_copies_of_a_caption_are_no_other_captions_of_the_image(tables):
    """As of several questions about one image: to say one's own words again is not the setting `multiple`."""
    folder = tables(copies=True)
    given = {"image": folder / "V.npy", "pairs": folder / "images.jsonl"}
    with pytest.raises(DataError, match="no two texts share a group"):
        advise(folder / "T.npy", **given, task="vqa")
    assert advise(folder / "T.npy", **given)[0].data == "pairs"


@pytest.mark.parametrize("grouped", [False, True])
def test_no_image_is_on_both_sides_however_it_is_linked(grouped):
    """Chains of three images, each linked to the next by a text of both; or images of a text apiece, linked by groups."""
    text, image, _ = world(copies=False)
    image, chain = image[::PER], np.repeat(np.arange(SCENES // 3), 3)
    pairs = np.stack((np.arange(SCENES), np.arange(SCENES)), axis=1)
    groups = chain if grouped else None
    if not grouped:
        pairs = np.concatenate((pairs, [[v - 1, v] for v in range(SCENES) if v % 3]))
    rows = Rows.of(text[::PER], image, pairs, groups, 1000, 0)
    place = {row.tobytes(): part for row, part in zip(image, chain, strict=True)}
    said = {row.tobytes(): part for row, part in zip(text[::PER], chain, strict=True)}
    tested = []
    for half in rows.halves("single", 0):
        learnt = {place[row.tobytes()] for row in half.fit["image"]} | {said[row.tobytes()] for row in half.sources}
        tried = {place[row.tobytes()] for row in half.images}
        assert learnt.isdisjoint(tried)
        tested += tried
    assert sorted(tested) == list(range(SCENES // 3))


def test_images_that_are_all_linked_are_refused(tables):
    text, image, _ = world(copies=False)
    pairs = [[t, v] for t in range(20) for v in (t, (t + 1) % 20)]
    with pytest.raises(DataError, match=r"1 images or groups of captions .* at least 8"):
        list(Rows.of(text[:20], image[: 20 * PER : PER], np.array(pairs), None, 1000, 0).halves("single", 0))
