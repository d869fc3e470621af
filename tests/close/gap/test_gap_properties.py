"""Closed forms and invariances of the measures."""

import json
from dataclasses import astuple

import numpy as np
import pytest

import close.gap.measures.distribution as distribution
from close.errors import DataError
from close.gap import measure_gap
from close.gap.measure import _intervals
from close.gap.measures import MEASURES
from close.gap.measures.centroid import centroid_gap, constancy
from close.gap.measures.cosine import paired_cosine, relative_gap, unpaired_cosine, within_cosine
from close.gap.measures.distribution import coral, frechet, mmd, sliced_w2
from close.gap.measures.hubness import hubness
from close.gap.measures.residual import noise_from_pairs, residual_size, residual_spectrum
from close.gap.measures.retrieval import neighbour_agreement, pair_recall
from close.gap.measures.shifted_loss import shifted_loss
from close.gap.measures.spread import cone, dimension_gap, trace_ratio
from close.gap.measures.structure import cka, procrustes_residual
from close.gap.measures.uniformity import uniformity
from close.gap.modalities import Modalities
from close.vectors.checked import UnitRows
from close.vectors.neighbours import nearest_across


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_is(rows):
    """Rows that no measure normalises: closed forms are those of any cloud."""
    return np.asarray(rows).view(UnitRows)


def rotation(dim, seed=3):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(11)
    content = rng.normal(size=(300, 16)) * np.linspace(1.5, 0.4, 16)
    text = unit(content + 0.4 * rng.normal(size=(300, 16)) + 0.6)
    return text, unit(content + 0.4 * rng.normal(size=(300, 16)) - 0.6)


def gaussian(count, mean, stds, seed):
    """Rows whose sample mean and covariance are exactly as asked."""
    rows = np.random.default_rng(seed).normal(size=(count, len(stds)))
    rows -= rows.mean(0)
    rows = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T
    return as_is(rows * stds + mean)


# closed forms


def test_frechet_and_coral_of_gaussians():
    a, b = np.array([1.0, 2.0, 0.5]), np.array([2.0, 2.0, 1.5])
    text, image = gaussian(500, np.zeros(3), a, 0), gaussian(400, np.array([3.0, 0, 4.0]), b, 1)
    assert frechet(text, image) == pytest.approx(25 + ((a - b) ** 2).sum())
    assert frechet(text, image, centred=True) == pytest.approx(((a - b) ** 2).sum())
    assert coral(text, image) == pytest.approx(np.linalg.norm(a**2 - b**2))
    assert trace_ratio(text, image) == pytest.approx(np.sqrt((b**2).sum() / (a**2).sum()))


def test_frechet_of_gaussians_that_are_turned():
    turn = rotation(3)
    text = gaussian(300, np.zeros(3), np.array([3.0, 1, 1]), 0)
    swapped = gaussian(300, np.zeros(3), np.array([1.0, 3, 1]), 1)
    assert frechet(as_is(text @ turn), as_is(swapped @ turn)) == pytest.approx(
        8
    )  # (3 − 1)² twice: both covariances are diagonal together


def test_a_pure_shift(sides):
    shift = np.linspace(-1, 1, 16)
    text, shifted = as_is(sides[0]), as_is(sides[0] + shift)
    assert centroid_gap(text, shifted) == pytest.approx(np.linalg.norm(shift))
    assert sliced_w2(text, shifted) == pytest.approx(np.linalg.norm(shift) / 4, rel=1e-4)
    assert frechet(text, shifted, centred=True) == pytest.approx(0, abs=1e-9)
    assert coral(text, shifted) == pytest.approx(0, abs=1e-12)
    constant = constancy(text, shifted)
    assert (constant.length_cv, constant.direction_cosine) == pytest.approx((0, 1), abs=1e-12)
    assert residual_size(text, shifted).norm == pytest.approx(0, abs=1e-12)
    with pytest.raises(DataError, match="exactly one shift"):
        residual_spectrum(text, shifted)
    ten = np.sort(np.abs(shift))[-10:].sum() / np.abs(shift).sum()
    assert dimension_gap(text, shifted).top10_gap_share == pytest.approx(ten)


def test_sliced_w2_of_clouds_of_different_sizes():
    """W₂² between points {0, 1} and {0, 0, 1}: a sixth of the mass moves by 1."""
    text, image = as_is([[0.0], [1.0]]), as_is([[0.0], [0.0], [1.0]])
    assert sliced_w2(text, image) == pytest.approx(np.sqrt(1 / 6))
    assert sliced_w2(as_is(np.repeat(text, 5, 0)), text) == pytest.approx(0, abs=1e-7)


def test_isotropic_residual_fills_every_direction():
    rng = np.random.default_rng(0)
    text = as_is(rng.normal(size=(40_000, 20)))
    image = as_is(text + 0.5 + 0.3 * rng.normal(size=text.shape))
    noise, spectrum = noise_from_pairs(text, image), residual_spectrum(text, image)
    assert noise.std == pytest.approx(0.3, rel=0.01)
    assert noise.cosine == pytest.approx(1 / np.sqrt(1 + 0.09 * 20), rel=0.01)
    assert spectrum.participation_ratio == pytest.approx(20, rel=0.01)
    assert spectrum.effective_rank == pytest.approx(20, rel=0.01)
    assert spectrum.top10_share == pytest.approx(0.5, rel=0.05)


def test_residual_in_one_direction():
    rng = np.random.default_rng(0)
    text = as_is(rng.normal(size=(200, 12)))
    image = as_is(text + rng.normal(size=(200, 1)) * np.eye(12)[:1])
    assert astuple(residual_spectrum(text, image)) == pytest.approx((1, 1, 1))


def test_uniformity_of_opposite_points():
    """One pair at distance 2: log exp(−2 · 4)."""
    assert uniformity(np.array([[1.0, 0], [-1.0, 0]])) == pytest.approx(-8)


def test_relative_gap_where_pairs_coincide_takes_the_authors_floor():
    rows = unit(np.random.default_rng(0).normal(size=(50, 8)))
    within = (1 - within_cosine(rows).mean) / 2
    assert relative_gap(rows, rows) == pytest.approx(1e-3 / (1e-3 + within), rel=1e-4)


def test_same_cloud_has_no_mmd_and_no_structure_apart(sides):
    text, _ = sides
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 1500, 4))
    assert abs(mmd(as_is(a), as_is(b))) < 3e-3  # unbiased: around zero
    assert mmd(as_is(a), as_is(b + 3)) > 0.5
    assert cka(text, text) == pytest.approx(1)
    assert procrustes_residual(text, text) == pytest.approx(0, abs=1e-12)
    assert neighbour_agreement(text, text) == 1
    assert pair_recall(text, text).image_to_text.at_1 == 1


def test_procrustes_and_cka_see_through_a_rotation(sides):
    text, _ = sides
    turned = text @ rotation(16)
    assert procrustes_residual(text, turned) == pytest.approx(0, abs=1e-12)
    assert cka(text, as_is(3 * turned + 1)) == pytest.approx(1)
    assert neighbour_agreement(text, turned) == 1


def test_a_hub_is_found():
    rng = np.random.default_rng(0)
    image = unit(rng.normal(size=(400, 30)) + 0.5)
    text = unit(rng.normal(size=(400, 30)))
    even = hubness(text, image)
    text[:10] = unit(image.mean(0, keepdims=True) + 0.02 * rng.normal(size=(10, 30)))
    assert hubness(text, image).text > 3 > even.text


def test_shifted_loss_closes_the_gap_at_one(sides):
    found = shifted_loss(*sides, shifts=(0, 0.5, 1))
    assert found.gap[0] == pytest.approx(centroid_gap(*sides))
    assert found.gap[0] > found.gap[1] > found.gap[2]


# invariances of everything at once

SEEDED = ("constancy", "separability", "sliced_w2", "search", "shuffled_cka", "linear_map")
ALONG_AXES = ("dimension", "residual.per_dim_mean", "residual.normality_p", "caption_spread.linf")
ORDERED = ("residual.consecutive_cosine",)


def same(first, second, but=(), rel=1e-4):
    for name in MEASURES.names:
        if first[name] is None or second[name] is None:
            assert first[name] is second[name] is None
        elif not name.startswith(tuple(but)):
            assert second[name] == pytest.approx(first[name], rel=rel, abs=2e-6), name


@pytest.fixture(scope="module")
def report(sides):
    return measure_gap(*sides, bootstrap=0)


def test_rotation_of_both_changes_nothing(sides, report):
    turn = rotation(16)
    turned = measure_gap(*(side @ turn for side in sides), bootstrap=0)
    same(report, turned, but=(*ALONG_AXES, "sliced_w2", "separability", "search"))
    assert turned["sliced_w2"] == pytest.approx(report["sliced_w2"], rel=0.02)
    assert turned["search.cosine"] == pytest.approx(report["search.cosine"], abs=0.1)


def test_order_of_the_pairs_changes_nothing(sides, report):
    order = np.random.default_rng(1).permutation(300)
    same(report, measure_gap(*(side[order] for side in sides), bootstrap=0), but=(*SEEDED, *ORDERED))


def test_length_of_the_rows_changes_nothing(sides, report):
    lengths = np.random.default_rng(1).uniform(0.5, 20, size=(300, 1))
    longer = measure_gap(sides[0] * lengths, sides[1], bootstrap=0)
    same(report, longer)
    assert "normalised" in longer.notes["text"]
    assert "image" not in longer.notes


def test_pairs_may_be_given_in_any_order_and_twice(sides, report):
    pairs = np.repeat(np.arange(300)[:, None], 2, axis=1)
    same(report, measure_gap(*sides, pairs=np.vstack((pairs[::-1], pairs[:50])), bootstrap=0))


def test_images_in_another_order_with_pairs(sides, report):
    order = np.random.default_rng(1).permutation(300)
    pairs = np.stack((order, np.arange(300)), axis=1)
    same(report, measure_gap(sides[0], sides[1][order], pairs=pairs, bootstrap=0), but=SEEDED)


def test_repeated_image_rows_are_one_image(sides):
    text, image = sides
    owner = np.repeat(np.arange(100), 3)
    repeated = measure_gap(text, image[owner], bootstrap=0)
    same(measure_gap(text, image[:100], pairs=np.stack((np.arange(300), owner), axis=1), bootstrap=0), repeated)
    assert repeated.n_image == 300
    assert "300 rows hold 100 different images" in repeated.notes["image"]
    assert repeated["cosine.same_image_captions.mean"] is not None


def test_distribution_measures_do_not_see_duplication(sides):
    twice = [np.vstack((side, side)) for side in sides]
    for measure in (centroid_gap, sliced_w2):
        assert measure(*twice) == pytest.approx(measure(*sides), rel=1e-5)
    assert astuple(cone(*twice)) == pytest.approx(astuple(cone(*sides)))
    assert paired_cosine(*twice).std == pytest.approx(paired_cosine(*sides).std)
    assert unpaired_cosine(*twice, "unpaired").std == pytest.approx(unpaired_cosine(*sides, "unpaired").std)
    assert cka(*twice) == pytest.approx(cka(*sides))
    assert procrustes_residual(*twice) == pytest.approx(procrustes_residual(*sides))


def test_swapping_sides_keeps_what_is_symmetric(sides):
    for measure in (centroid_gap, frechet, coral, mmd, cka, procrustes_residual, neighbour_agreement, relative_gap):
        assert measure(sides[1], sides[0]) == pytest.approx(measure(*sides), rel=1e-5)
    assert pair_recall(sides[1], sides[0]).image_to_text == pair_recall(*sides).text_to_image


# blocks, tiles, samples


def test_tiles_do_not_show(sides, monkeypatch):
    whole = mmd(*sides), uniformity(sides[0])
    monkeypatch.setattr("close.gap.measures.distance.TILE", 11)
    monkeypatch.setattr("close.vectors.checked.BLOCK", 17)
    assert mmd(*sides) == pytest.approx(whole[0], rel=1e-6)
    assert uniformity(sides[0]) == pytest.approx(whole[1], rel=1e-6)


def test_the_median_distance_is_exact_when_the_sample_misleads(sides, monkeypatch):
    """A tiny probe brackets the median badly; the next bracket, or all of it, must still give the same."""
    right = mmd(*sides)
    monkeypatch.setattr(distribution, "PROBE", 2)
    assert mmd(*sides) == pytest.approx(right, rel=1e-9)


def test_above_the_limit_a_seeded_sample_is_used_and_said(sides, report):
    sampled = measure_gap(*sides, sample=150, bootstrap=0)
    for name in ("uniformity.text", "uniformity.cross", "mmd", "neighbour_agreement"):
        assert "150 of 300" in sampled.notes[name]
        assert "seed 0" in sampled.notes[name]
        assert sampled[name] != report[name]
    for name in ("mmd", "uniformity.cross"):
        assert sampled[name] == pytest.approx(report[name], rel=0.1)
    same(report, sampled, but=("uniformity", "mmd", "neighbour_agreement", "separability"), rel=0)
    same(sampled, measure_gap(*sides, sample=150, bootstrap=0), rel=0)


def test_of_very_many_rows_some_look_for_neighbours_among_all(sides, report, monkeypatch):
    monkeypatch.setattr("close.gap.modalities.LEAST_ASKED", 60)
    some = measure_gap(*sides, sample=30, bootstrap=200)
    for direction, kind in (("image_to_text", "images"), ("text_to_image", "texts")):
        name = f"recall.{direction}.at_1"
        assert some.notes[name] == f"asked by 75 of 300 {kind}, drawn with seed 0"  # 150² answers for 300
        assert some[name] != report[name]
        assert some.intervals[name][0] <= report[name] <= some.intervals[name][1]
    assert some["hubness.text"] is None
    assert "a larger sample" in some.notes["hubness.text"]
    data = Modalities.of(*sides).asking(30, 0)
    texts, images = data.asked
    whole = nearest_across(*sides)
    assert np.array_equal(data.neighbours.texts_of_image, whole.texts_of_image[images])
    assert np.array_equal(data.neighbours.images_of_text, whole.images_of_text[texts])
    for (queries, ranks), (every, known) in zip(data.hit_ranks, Modalities.of(*sides).hit_ranks, strict=True):
        assert np.array_equal(ranks, known[np.isin(every, queries)])


def test_unit_rows_of_a_file_stay_there(sides, tmp_path, monkeypatch):
    text, image = sides
    np.save(tmp_path / "text.npy", text.astype(np.float32))
    np.save(tmp_path / "image.npy", 3 * image.astype(np.float32))
    monkeypatch.setattr("close.vectors.checked.IN_MEMORY", 0)
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    tables = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("text", "image")]
    data = Modalities.of(*tables)
    assert np.shares_memory(data.text, tables[0])
    assert isinstance(data.image.base, np.memmap)
    assert not any((tmp_path / "cache").iterdir())  # gone by name
    same(measure_gap(*sides, bootstrap=0), measure_gap(*tables, bootstrap=0), rel=1e-5)


# intervals


def test_intervals_agree_with_textbook_ones(sides):
    """The bootstrap interval of a mean is mean ± 1.96 · sd/√N."""
    report = measure_gap(*sides, bootstrap=2000)
    cosines = np.einsum("ij,ij->i", *sides)
    half = 1.96 * cosines.std() / np.sqrt(300)
    assert report.intervals["cosine.paired.mean"] == pytest.approx(
        (cosines.mean() - half, cosines.mean() + half), abs=2e-3
    )
    for name, (low, high) in report.intervals.items():
        assert low <= report[name] <= high, name
    assert {"centroid_gap", "rmg", "noise.std", "recall.image_to_text.at_1"} <= set(report.intervals)


def test_intervals_cover():
    """Of 60 small samples, about 95 % of intervals hold the value of the large one they are drawn from."""
    rng = np.random.default_rng(0)
    content = rng.normal(size=(20_000, 8))
    text, image = (unit(content + 0.7 * rng.normal(size=content.shape) + mean) for mean in (0.5, -0.3))
    truth = measure_gap(text[:4000], image[:4000], sample=500, bootstrap=0)
    names = ("centroid_gap", "rmg", "noise.std", "cosine.image_image.mean", "trace_ratio")
    held = dict.fromkeys(names, 0)
    for trial in range(60):
        rows = rng.choice(20_000, 150, replace=False)
        found = measure_gap(text[rows], image[rows], bootstrap=300, seed=trial)
        for name in names:
            held[name] += found.intervals[name][0] <= truth[name] <= found.intervals[name][1]
    assert all(count >= 50 for count in held.values()), held


@pytest.mark.parametrize("count", [10, 20])
def test_intervals_of_few_images_cover(count):
    """Of 400 samples of a normal mean; without being widened, 90 and 91 % of the intervals held it."""
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(400):
        angle = np.arccos(rng.normal(0.3, 0.1, count).clip(-1, 1))
        turn = rng.uniform(0, 2 * np.pi, count)
        text = np.stack((np.cos(turn), np.sin(turn)), axis=1)
        image = np.stack((np.cos(turn + angle), np.sin(turn + angle)), axis=1)
        data = Modalities.of(text, image)
        values = dict.fromkeys(MEASURES.names) | {"cosine.paired.mean": float(data.pair_cosines.mean())}
        low, high = _intervals(data, values, 300, trial)["cosine.paired.mean"]
        held += low <= 0.3 <= high
    assert held / 400 == pytest.approx(0.95, abs=0.025)


def test_no_interval_of_very_few_images_and_an_exact_one_of_all_or_nothing():
    rng = np.random.default_rng(0)
    text = unit(rng.normal(size=(12, 30)))
    image = unit(text + 0.01 * rng.normal(size=text.shape))
    assert measure_gap(text[:9], image[:9], bootstrap=50).intervals == {}
    found = measure_gap(text, image, bootstrap=50)
    assert found["recall.image_to_text.at_1"] == 1
    assert found.intervals["recall.image_to_text.at_1"] == pytest.approx((0.025 ** (1 / 12), 1.0))
    pairs = np.stack((np.arange(12), np.arange(12) // 3), axis=1)
    assert measure_gap(text, image[:4], pairs=pairs, bootstrap=50).intervals == {}  # four images


def test_an_exact_interval_is_of_those_that_ask(sides, monkeypatch):
    monkeypatch.setattr("close.gap.modalities.LEAST_ASKED", 60)
    text, _ = sides
    few = measure_gap(text, -text, sample=30, bootstrap=100)  # each image's own text is the farthest
    for name in ("recall.image_to_text.at_1", "recall.text_to_image.at_1"):
        assert few[name] == 0
        assert few.intervals[name] == (0, pytest.approx(1 - 0.025 ** (1 / 75)))


def test_captions_of_an_image_are_drawn_together():
    """Three equal captions an image: as uncertain as one caption an image, not √3 times less."""
    rng = np.random.default_rng(4)
    image = unit(rng.normal(size=(80, 10)) + 0.3)
    text = unit(image + 0.8 * rng.normal(size=image.shape))
    one = measure_gap(text, image, bootstrap=1000).intervals["cosine.paired.mean"]
    pairs = np.stack((np.arange(240), np.repeat(np.arange(80), 3)), axis=1)
    three = measure_gap(np.repeat(text, 3, axis=0), image, pairs=pairs, bootstrap=1000).intervals["cosine.paired.mean"]
    assert np.ptp(three) == pytest.approx(np.ptp(one), rel=0.12)


def test_same_seed_same_report(sides):
    assert measure_gap(*sides, bootstrap=100).to_dict() == measure_gap(*sides, bootstrap=100).to_dict()
    assert measure_gap(*sides, bootstrap=100).intervals != measure_gap(*sides, bootstrap=100, seed=1).intervals


# the catalogue


def test_catalogue_names_are_those_of_the_report(report):
    assert len(set(MEASURES.names)) == len(MEASURES.names) == len(report.values)
    assert all(measure.healthy and measure.meaning and measure.title for measure in MEASURES)
    flat = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    for name in MEASURES.names:
        node = flat
        for part in name.split("."):
            node = node[part]
        assert node == report[name]


def test_intervals_hardly_change_with_one_image_too_many(sides):
    """With an image that no text belongs to, pairs are summed by themselves; without, with the tables."""
    text, image = sides
    plain = measure_gap(text, image, bootstrap=500)
    more = measure_gap(
        text, np.vstack((image, -image[:1])), pairs=np.repeat(np.arange(300)[:, None], 2, 1), bootstrap=500
    )
    for name in ("noise.std", "residual.per_dim_std", "alignment", "rmg"):
        assert np.ptp(more.intervals[name]) == pytest.approx(np.ptp(plain.intervals[name]), rel=0.15), name
        assert more[name] == pytest.approx(plain[name], rel=0.02)
