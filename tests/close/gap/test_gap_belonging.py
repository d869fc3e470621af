"""Pairs that are wrong, and pairs of two spaces that were never brought together."""

import json

import numpy as np
import pytest

from close.errors import DataError
from close.gap import measure_gap
from close.gap.advice.advise import comments
from close.gap.advice.recommend import recommend
from close.gap.measures.belonging import mapped_pairs, separation, shuffled_cka, spaces, spaces_of_pairs, units
from close.gap.measures.cosine import Spread
from close.gap.measures.structure import cka
from close.gap.report.words import verdict


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def two_encoders(count=600, dim=32, seed=0):
    """Texts, and images that are the same but for a turn, a shift and some noise: pairs row by row, no space in common."""
    rng = np.random.default_rng(seed)
    text = unit(rng.normal(size=(count, dim)) * np.arange(1, dim + 1) ** -0.5)
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return text, unit(text @ turn + 0.05 * rng.normal(size=text.shape) + 0.1)


@pytest.fixture(scope="module")
def unaligned():
    return two_encoders()


@pytest.fixture(scope="module")
def wrong(unaligned):
    text, image = unaligned
    return text, np.random.default_rng(1).permutation(image)


def test_two_encoders_apart_are_not_wrong_pairs(unaligned):
    report = measure_gap(*unaligned, bootstrap=0)
    found = verdict(report)
    assert found.headline.startswith("The pairs belong together, yet the two spaces are not aligned")
    assert "Check how texts and images are paired" not in " ".join(found.steps)
    assert "Fit a linear map on pairs" in found.steps[0]
    assert "does not apply" in found.steps[1]
    assert report["linear_map.cosine"] > 0.9
    assert report["linear_map.recall"] > 0.9
    assert f"brings others to cosine {report['linear_map.cosine']:.2f}" in " ".join(found.findings)


def test_wrong_pairs_are_wrong(wrong):
    report = measure_gap(*wrong, bootstrap=0)
    found = verdict(report)
    assert found.headline.startswith("The pairs do not belong together")
    assert "Neither are both sides ordered alike: linear CKA of one text an image" in found.findings[0]
    assert found.steps == (
        "Check how texts and images are paired (--pairs) before reading anything else in this report.",
    )
    assert abs(report["shuffled_cka.above"]) < 4


def test_the_null_is_in_the_json_beside_what_was_there(unaligned):
    found = json.loads(json.dumps(measure_gap(*unaligned, bootstrap=0).to_dict()))
    assert set(found["shuffled_cka"]) == {"mean", "std", "above"}
    assert set(found["linear_map"]) == {"cosine", "separation", "recall"}
    assert isinstance(found["cka"], float)
    assert found["notes"]["shuffled_cka.mean"] == "on 500 of 600 pairs, drawn with seed 0"


def test_the_null_is_linear_cka_of_pairs_dealt_out_anew(unaligned):
    text, image = (side[:80] for side in unaligned)
    rng = np.random.default_rng(5)
    drawn = np.array([cka(text, image[rng.permutation(80)]) for _ in range(300)])
    found = shuffled_cka(text, image)
    assert found.mean == pytest.approx(drawn.mean(), rel=0.05)
    assert found.std == pytest.approx(drawn.std(), rel=0.35)
    assert found.above == pytest.approx((cka(text, image) - found.mean) / found.std, rel=1e-6)


def test_few_rows_for_the_dimensions_do_not_make_wrong_pairs_right():
    """CKA of 60 shuffled pairs in 128 dimensions is large; not against its null."""
    found = [two_encoders(60, 128, seed) for seed in range(10)]
    rng = np.random.default_rng(0)
    assert min(cka(text, rng.permutation(image)) for text, image in found) > 0.2
    assert max(shuffled_cka(text, rng.permutation(image)).above for text, image in found) < 5
    assert min(shuffled_cka(text, image).above for text, image in found) > 5


def test_a_map_is_tried_on_pairs_that_it_has_not_seen(wrong):
    assert abs(mapped_pairs(*wrong).separation) < 0.3


def test_a_map_is_not_learnt_where_pairs_are_near_as_they_are(unaligned):
    text, _ = unaligned
    report = measure_gap(text, text + 0.01 * unaligned[1], bootstrap=0)
    assert report["linear_map.cosine"] is None
    assert "--adapter" in report.notes["linear_map.cosine"]


@pytest.mark.parametrize(
    ("apart", "above", "mapped", "what"),
    [
        (3.0, 80.0, None, "aligned"),
        (0.1, 80.0, None, "unaligned"),
        (-0.8, 80.0, 5.0, "unaligned"),
        (0.6, 80.0, 5.0, "unaligned"),  # a turn may bring pairs so near by chance
        (0.6, 80.0, 1.5, "aligned"),  # a weak encoder: a map does hardly better
        (0.1, 1.0, 0.1, "unrelated"),
        (0.1, None, None, "unrelated"),
    ],
)
def test_how_spaces_lie(apart, above, mapped, what):
    assert spaces(apart, above, mapped) == what


def test_separation_is_in_spreads_of_strangers():
    assert separation(0.31, Spread(0.16, 0.05)) == pytest.approx(3)


def test_one_pair_an_image_and_a_film():
    pairs = np.stack((np.arange(120), np.arange(120) // 2), axis=1)  # two captions an image
    assert len(units(pairs, np.arange(120) // 2, 500, 0)) == 60
    assert len(units(pairs, np.arange(120) // 4, 500, 0)) == 30  # two frames a film
    assert len(units(pairs, np.arange(120) // 2, 25, 0)) == 25
    with pytest.raises(DataError, match="needs 20 images, each with a text of its own; there are 12"):
        units(pairs, np.arange(120) // 10, 500, 0)


def test_few_pairs_tell_nothing_of_it(unaligned):
    text, image = (side[:12] for side in unaligned)
    report = measure_gap(text, image, bootstrap=0)
    assert report["shuffled_cka.above"] is None
    assert "needs 20 images" in report.notes["shuffled_cka.above"]
    pairs = np.stack((np.arange(12), np.arange(12)), axis=1)
    assert spaces_of_pairs(text, image, pairs, np.arange(12)) in ("aligned", "unrelated")


@pytest.mark.parametrize("captions", ["single", "multiple"])
def test_the_advice_for_two_encoders_apart_is_a_map_on_pairs_alone(unaligned, captions):
    text, image = unaligned
    owner = np.arange(600) // 2
    pairs = np.stack((np.arange(600), owner), axis=1)
    rng = np.random.default_rng(2)
    text = unit(text[2 * owner] + 0.05 * rng.normal(size=text.shape))
    advice = recommend(text, image[::2], pairs=pairs, captions=captions)
    assert advice.spaces == "unaligned"
    assert advice.adapter == {"linear": {"method": "ridge"}}
    assert [trial.adapter for trial in advice.trials] == ["none", {"linear": {"method": "ridge"}}]
    assert advice.search is advice.retrieve is None
    assert "not aligned" in advice.reasons[1]
    assert advice.agreement > 0.8 > advice.without
    assert "pair residual" not in " ".join(advice.reasons)


def test_a_map_on_few_pairs_is_unsure(unaligned):
    advice = recommend(*(side[:100] for side in unaligned))
    assert advice.adapter == {"linear": {"method": "ridge"}}
    assert any(reason.startswith("Unsure: these rows are few for a map") for reason in advice.reasons)


def test_the_advice_for_wrong_pairs_is_to_look_at_them(wrong, tmp_path):
    advice = recommend(*wrong)
    assert advice.spaces == "unrelated"
    told = " ".join(line.lstrip("# ") for line in comments(advice, tmp_path / "T", why="close recommend"))
    assert "Unsure: the pairs do not belong together" in told


def test_of_one_space_nothing_changes(unaligned):
    text, _ = unaligned
    rng = np.random.default_rng(3)
    advice = recommend(text, unit(text + 0.05 * rng.normal(size=text.shape) + 0.1))
    assert advice.spaces == "aligned"
    assert len(advice.trials) > 2
    assert recommend(text).spaces is None
