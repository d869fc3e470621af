"""The curve of a search among texts over noise, where its answer is known, and what is advised by it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from close.gap import measure_gap, recommend
from close.gap.adapted import adapt
from close.gap.advice.advise import to_yaml
from close.gap.measure import measure_modalities
from close.gap.measured_tables import measure_tables, to_json
from close.gap.modalities import Modalities
from close.gap.report import figures
from close.gap.search_curve import COSINES, search_curve


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def noised(rows, cosine, seed):
    moved = rows + np.sqrt((cosine**-2 - 1) / rows.shape[1]) * np.random.default_rng(seed).standard_normal(rows.shape)
    return unit(moved)


@pytest.fixture(scope="module")
def world():
    """Five captions of each of 300 images, and the images' labels."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), 5)
    return unit(unit(rng.standard_normal((300, 48)))[groups] + 0.09 * rng.standard_normal((1500, 48))), groups


@pytest.mark.parametrize("cosine", [0.8, 0.6, 0.4])
def test_images_that_are_noised_captions_give_their_own_noise(world, cosine):
    text, groups = world
    rows = np.arange(0, 1500, 5)
    curve = search_curve(text, noised(text[rows], cosine, 1), rows, labels=groups)
    assert curve.noise == pytest.approx(cosine, abs=0.06)
    assert curve.at_noise(curve.own) == pytest.approx(curve.image_own, abs=0.07)
    assert curve.overlap[0] > curve.overlap[-1]
    assert list(curve.cosine) == list(COSINES)


def test_images_that_are_their_captions_need_no_noise(world):
    text, groups = world
    curve = search_curve(text, text[::5], np.arange(0, 1500, 5), labels=groups)
    assert curve.noise == 1
    assert curve.overlap[0] == 1
    assert curve.own[0] == curve.image_own > 0.7
    assert search_curve(text, text[::5], np.arange(0, 1500, 5)).own is None


def test_against_sorting_everything(world):
    text, groups = world
    rows, hidden = np.arange(0, 200, 4), np.arange(0, 200, 4) + 1
    images = noised(text[rows], 0.6, 2)
    curve = search_curve(text, images, rows, hidden, groups, k=3)
    own, near, shared = [], [], []
    for row, gone, image in zip(rows, hidden, images, strict=True):
        left = [other for other in range(1500) if other not in (row, gone)]
        by_image, by_text = (sorted(left, key=lambda other: -float(text[other] @ x))[:3] for x in (image, text[row]))
        own.append(np.mean(groups[by_image] == groups[row]))
        near.append(np.mean(text[by_image] @ text[row]))
        shared.append(len({*by_image} & {*by_text}) / 3)
    assert curve.image_own == pytest.approx(np.mean(own))
    assert curve.image_nearness == pytest.approx(np.mean(near), abs=1e-5)
    assert curve.overlap[0] == pytest.approx(np.mean(shared))


def test_the_harder_the_search_the_more_texts(world):
    text, _ = world
    rows = np.arange(0, 1500, 5)
    ks = [search_curve(text, noised(text[rows], cosine, 3), rows).best_k for cosine in (0.95, 0.3)]
    assert ks[0] < ks[1]


def test_equal_captions_do_not_find_each_other(world):
    text, _ = world
    twice = np.concatenate((text, text[:100]))
    curve = search_curve(twice, text[:100], np.arange(100))
    assert curve.nearness[0] < 0.99


def test_it_is_in_the_report_and_in_the_advice(world):
    text, groups = world
    image = noised(text[::5], 0.6, 1)
    pairs = np.stack((np.arange(1500), groups), axis=1)
    report = measure_gap(text, image, pairs=pairs, bootstrap=0)
    assert report["search.cosine"] == pytest.approx(0.6, abs=0.06)
    assert 0 < report["search.overlap"] < 1
    assert report.to_dict()["search"]["curve"]["noise"] == report["search.cosine"]
    alone = measure_gap(text, image, pairs="unpaired", bootstrap=0)
    assert alone["search.cosine"] is None
    assert "curve" not in alone.to_dict()["search"]
    advice = recommend(text, image, pairs=pairs)
    assert advice.retrieve["noise"] == pytest.approx(0.6, abs=0.06)
    assert json.loads(json.dumps(advice.to_dict()))["retrieve"] == advice.retrieve
    (line,) = (line for line in to_yaml(advice, "t").splitlines() if "retrieve: {" in line)
    assert f"retrieve: {{k: {advice.retrieve['k']}, noise: {advice.retrieve['noise']}}}" in line
    for known in ({"groups": groups}, {}):
        found = recommend(text[:400], **{key: value[:400] for key, value in known.items()})
        assert found.retrieve["k"] >= 1
        assert any("a stand-in for an image finds" in reason for reason in found.reasons)
    assert recommend(text[:40], groups=groups[:40]).retrieve is None


def test_of_many_captions_it_says_which_are_asked(monkeypatch):
    rng = np.random.default_rng(0)
    text = rng.standard_normal((600, 8))
    image = text + rng.standard_normal((600, 8))
    reports = [measure_gap(text, image, bootstrap=0, seed=seed) for seed in (0, 5)]
    assert reports[0]["search.overlap"] != reports[1]["search.overlap"]
    for name in ("search.cosine", "search.overlap"):
        assert reports[1].notes[name] == "asked by 500 of 600 captions, drawn with seed 5"
    assert "search.cosine" not in measure_gap(text[:500], image[:500], bootstrap=0).notes
    monkeypatch.setattr("close.gap.measures.retrieval.MOST", 550)
    said = measure_gap(text, image, bootstrap=0).notes["search.cosine"]
    assert said == "asked by 500 of 600 captions, drawn with seed 0; among 550 of 600 texts"


def test_a_run_searches_before_its_adapter():
    rng = np.random.default_rng(0)
    text = rng.standard_normal((60, 8))
    data = Modalities.of(text, text + rng.standard_normal((60, 8)))
    report = measure_modalities(adapt(data, "mean_shift"), bootstrap=0)
    assert report["search.cosine"] is None
    assert "before its adapter" in report.notes["search.cosine"]
    assert not report.curves
    assert measure_modalities(data, bootstrap=0).curves


def test_strangers_are_other_texts():
    text = unit(np.random.default_rng(0).standard_normal((40, 8)) + 0.5)
    rows = np.arange(0, 40, 2)
    curve = search_curve(text, text[rows], rows)
    others = [text[row] @ text[other] for row in rows for other in range(40) if other != row]
    assert curve.strangers == pytest.approx(np.mean(others), abs=1e-6)


def test_the_order_of_few_pairs_hardly_moves_it():
    rng = np.random.default_rng(0)
    text = unit(rng.standard_normal((60, 32)))
    images = unit(text + 0.2 * rng.standard_normal((60, 32)))
    turns = [rng.permutation(60) for _ in range(8)]
    curves = [search_curve(text[turn], images[turn], np.arange(60)) for turn in turns]
    assert np.std([curve.noise for curve in curves]) < 0.012
    assert np.std([curve.at_noise(curve.overlap) for curve in curves]) < 0.012
    assert {curve.queries for curve in curves} == {60}
    assert np.ptp([curve.image_nearness for curve in curves]) < 1e-6


def test_images_that_find_further_texts_than_any_noise_does(tmp_path):
    """What lies opposite to its caption: no noise searches as badly, which is told wherever the noise would be."""
    rng = np.random.default_rng(0)
    text = unit(rng.standard_normal((80, 16)))
    image = unit(0.1 * rng.standard_normal((80, 16)) - text)
    curve = search_curve(text, image, np.arange(80))
    assert curve.nearness[-1] > curve.image_nearness
    assert curve.noise is None
    assert curve.at_noise(curve.overlap) is None
    np.save(tmp_path / "T.npy", text)
    np.save(tmp_path / "V.npy", image)
    measured = measure_tables([("x", tmp_path / "T.npy", tmp_path / "V.npy")], bootstrap=0)
    said = json.loads(to_json([replace(measured[0], encoder="clip", fingerprint="f")]))
    assert (said["encoder"], said["fingerprint"]) == ("clip", "f")
    assert said["search"] | {"curve": None} == {"cosine": None, "overlap": None, "curve": None}
    assert said["search"]["curve"]["noise"] is None
    assert said["search"]["curve"]["nearness"] == list(measured[0].modalities.search.nearness)
    assert "with noise of cosine 0.208, the most that was tried" in said["notes"]["search.cosine"]
    assert figures.searches(measured)
    advice = recommend(text, image)
    assert advice.spaces == "unaligned"
    assert (advice.retrieve, advice.search) == (None, None)
    assert json.loads(json.dumps(advice.to_dict(), allow_nan=False))["retrieve"] is None
    assert "retrieve:" not in to_yaml(advice, "t").split("# noise:")[1]


def test_the_fewest_texts_are_told_where_none_say_anything_of_the_caption():
    """Within 2 % of a best below zero lies what is below it too."""
    rng = np.random.default_rng(17)
    text = unit(rng.standard_normal((80, 16)))
    curve = search_curve(text, unit(rng.standard_normal((80, 16)) - 0.6 * text), np.arange(80))
    assert curve.depth[0] < 1.02 * max(curve.depth) < 0
    assert curve.depth[curve.best_k - 1] >= 1.02 * max(curve.depth)
