"""One image that was embedded anew for each of its captions: equal up to rounding, and told."""

import os
from pathlib import Path

import numpy as np
import pytest

from close.gap import measure_gap, recommend
from close.gap.copies import first_of_copies
from close.gap.measured_tables import measure_tables
from close.gap.measures.belonging import mapped_pairs, shuffled_cka, spaces_of_pairs
from close.gap.report.page import render_html
from close.gap.report.words import spaces_of

DATA = Path(os.environ.get("CLOSE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "coco250_clip_vitb16"
IMAGES, EACH, DIM = 200, 5, 64
OWN = np.repeat(np.arange(IMAGES), EACH)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rows(*, right=False, rounding=0.0, seed=0):
    """A row for each of 5 captions of 200 images; captions of an image are alike, and of that image if they are right.

    Args:
        rounding: length of what parts an image's copies.
    """
    rng = np.random.default_rng(seed)
    image = unit(rng.normal(size=(IMAGES, DIM)))
    said = image if right else rng.normal(size=image.shape)
    text = unit(unit(said)[OWN] + 0.04 * rng.normal(size=(IMAGES * EACH, DIM)))
    return text, unit(image[OWN] + rounding / DIM**0.5 * rng.normal(size=text.shape))


@pytest.mark.parametrize("rounding", [0, 1e-6, 1e-2])
def test_wrong_pairs_of_copies_are_no_two_spaces(rounding):
    text, image = rows(rounding=rounding)
    report = measure_gap(text, image, bootstrap=0)
    assert spaces_of(report) == "unrelated"
    assert report["linear_map.recall"] < 0.1
    assert recommend(text, image).spaces == "unrelated"
    assert shuffled_cka(text, image).above < 5  # whoever asks row by row is told the same
    assert mapped_pairs(text, image).recall < 0.1


def test_copies_are_told_with_what_to_do():
    text, image = rows(right=True, rounding=1e-2)
    note = measure_gap(text, image, bootstrap=0).notes["image"]
    assert note.startswith("200 of 200 images, compared with all, have a copy (cosine over 0.9995)")
    assert note.endswith(
        "R@k reads low and intervals are too narrow: give each image one row (--per-image, --pairs), or groups"
    )
    grouped = measure_gap(text, image, groups=OWN, bootstrap=0).notes["image"]
    assert grouped.endswith("so R@k reads low: give each image one row (--per-image, --pairs)")
    unpaired = measure_gap(text[::2], image, pairs="unpaired", bootstrap=0).notes["image"]
    assert unpaired.endswith("so intervals are too narrow: give each image one row")
    told = " ".join(recommend(text, image).reasons)
    assert "Unsure: 200 of 200 images, compared with all, have a copy" in told
    assert "both halves hold the same images" in told
    assert "have a copy" not in " ".join(recommend(text, image, groups=OWN).reasons)


def test_copies_are_told_in_the_page_and_on_the_terminal(cli, tmp_path):
    for name, side in zip(("T", "V"), rows(right=True, rounding=1e-2), strict=True):
        np.save(tmp_path / f"{name}.npy", side)
    tables = ["--text", tmp_path / "T.npy", "--image", tmp_path / "V.npy"]
    assert "note, image: 200 of 200 images" in cli("gap", *tables, "--bootstrap", 0).out
    measured = measure_tables([("as it is", tmp_path / "T.npy", tmp_path / "V.npy")], bootstrap=0)
    assert "200 of 200 images, compared with all, have a copy" in render_html(measured)
    assert "have a copy" in cli("recommend", *tables).out.replace("\n# ", " ")


def test_different_images_are_no_copies():
    text, image = rows(right=True)
    different = measure_gap(text[::EACH], image[::EACH], bootstrap=0)
    few = np.concatenate((image[::EACH], unit(image[:EACH:EACH] + 1e-5)))  # one of 200 comes twice
    frames = unit(image + 1e-3 * np.random.default_rng(0).normal(size=image.shape))
    films = np.stack((OWN, np.arange(len(OWN))), axis=1)
    for report in (
        different,
        measure_gap(np.concatenate((text[::EACH], text[1:2])), few, bootstrap=0),
        measure_gap(text[::EACH], frames, pairs=films, bootstrap=0),  # a text says that they go together
        measure_gap(text, image[::EACH], pairs=films[:, ::-1], bootstrap=0),
        measure_gap(text, image, bootstrap=0),  # equal rows are one image
    ):
        assert "copy" not in report.notes.get("image", "")
        assert "text" not in report.notes


@pytest.mark.parametrize("noise", [1e-3, 5e-3, 0.02])
def test_different_images_of_a_narrow_cone_are_no_copies(noise):
    rng = np.random.default_rng(0)
    base, said = rng.normal(size=DIM), rng.normal(size=(500, 16))
    image, text = unit(base + noise * said @ rng.normal(size=(16, DIM))), unit(said @ rng.normal(size=(16, DIM)))
    each = np.arange(500)
    assert spaces_of_pairs(text, image, np.stack((each, each), axis=1), each) == "unaligned"
    assert "image" not in measure_gap(text, image, bootstrap=0).notes
    collapsed = unit(base + noise * rng.normal(size=(500, DIM)))
    assert mapped_pairs(collapsed, unit(rng.normal(size=(500, DIM)))).recall < 0.1


@pytest.mark.parametrize(("number", "dim"), [(300, 2), (3000, 3)])
def test_rows_of_few_dimensions_are_no_copies(number, dim):
    rng = np.random.default_rng(0)
    text, image = unit(rng.normal(size=(number, dim))), unit(rng.normal(size=(number, dim)))
    assert not {"text", "image"} & {*measure_gap(text, image, bootstrap=0).notes}


@pytest.mark.parametrize("number", [12, 40])
def test_one_photo_twice_among_few_is_no_sign_of_captions(number):
    text, image = rows(right=True)
    few = np.concatenate((image[: number * EACH : EACH], unit(image[:1] + 1e-5)))
    assert "image" not in measure_gap(np.concatenate((text[: number * EACH : EACH], text[1:2])), few, bootstrap=0).notes


def test_a_copy_of_what_was_left_out_is_kept():
    turn = 0.025 * np.arange(3)  # the second is a copy of both others, which are none of each other
    chain = np.stack((np.cos(turn), np.sin(turn)), axis=1)
    others = np.eye(DIM, dtype=np.float32)
    found = np.concatenate((np.pad(chain, ((0, 0), (0, DIM - 2))), others[2:]))
    assert first_of_copies(found).tolist() == [0, *range(2, DIM + 1)]


@pytest.mark.skipif(not DATA.is_dir(), reason="the CLIP embeddings of COCO are not here")
def test_real_photos_are_no_copies():
    report = measure_gap(np.load(DATA / "text.npy"), np.load(DATA / "image.npy"), bootstrap=0)
    assert not {"text", "image"} & {*report.notes}


def test_of_equal_texts_any_is_right():
    """Photos of ten classes, each with its class's name: two spaces that are not aligned, in which a map finds the class."""
    rng = np.random.default_rng(0)
    named, turn = rng.integers(0, 10, 500), np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    classes = rng.normal(size=(10, DIM))
    text, image = unit(classes[named]), unit((classes[named] + 0.5 * rng.normal(size=(500, DIM))) @ turn)
    for said in (text, unit(text + 1e-6 * rng.normal(size=text.shape))):
        report = measure_gap(said, image, bootstrap=0)
        assert spaces_of(report) == "unaligned"
        assert report["linear_map.recall"] > 0.95
        assert report.notes["text"].endswith(
            "have a copy (cosine over 0.9995) that is of another image: R@k takes an image's own rows alone for right"
        )
    wrong = measure_gap(text, rng.permutation(image), bootstrap=0)
    assert wrong["linear_map.recall"] < 0.3
