"""Confidence maps and their measures against scikit-learn, closed forms and a slow reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from close.errors import DataError
from close.evaluation.calibration import (
    Calibration,
    accuracy_at,
    aurc,
    ece,
    ece_by_chance,
    fit,
    interval,
    reliability,
    risk_coverage,
)


@pytest.fixture
def outputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Likelihoods, cosines and whether 400 outputs are right, which hangs on both."""
    rng = np.random.default_rng(0)
    likelihood, cosine = -rng.exponential(0.5, 400).round(2), rng.normal(0.6, 0.1, 400)
    sure = 1 / (1 + np.exp(-(3 + 4 * likelihood + 20 * (cosine - 0.6))))
    return likelihood, cosine, (rng.random(400) < sure).astype(float)


def test_the_map_is_scikit_learns(outputs):
    likelihood, cosine, right = outputs
    for by, signal in (("likelihood", likelihood), ("cosine", cosine)):
        found = fit(by, likelihood, cosine, right)
        wanted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(signal, right)
        unseen = np.linspace(signal.min() - 1, signal.max() + 1, 500)
        both = (unseen, unseen) if by == "likelihood" else (np.zeros(500), unseen)
        assert found(*both) == pytest.approx(wanted.predict(unseen), abs=1e-9)
        assert Calibration.of(json.loads(json.dumps(found.to_dict())), "x")(*both) == pytest.approx(found(*both), abs=0)


def test_both_signals_order_better_than_either(outputs):
    likelihood, cosine, right = outputs
    maps = {by: fit(by, likelihood, cosine, right) for by in ("likelihood", "cosine", "both")}
    areas = {by: aurc(found.signal(likelihood, cosine), right) for by, found in maps.items()}
    assert areas["both"] < 0.9 * min(areas["likelihood"], areas["cosine"])
    assert maps["both"].weights[0] > 0
    assert maps["both"].weights[1] > 0
    assert fit("likelihood", likelihood, None, right)(likelihood) == pytest.approx(maps["likelihood"](likelihood))


def test_shares_are_targets_too(outputs):
    likelihood, cosine, _ = outputs
    found = fit("both", likelihood, cosine, np.full(400, 0.75))
    assert found(likelihood, cosine) == pytest.approx(np.full(400, 0.75))
    empty = fit("cosine", likelihood, np.where(np.arange(400) < 9, np.nan, cosine), (np.arange(400) >= 9).astype(float))
    assert empty([0.0, 0.0], [np.nan, 0.6]).tolist() == [0, 1]


def test_areas_and_accuracies_by_hand():
    sure, right = np.array([0.9, 0.5, 0.5, 0.1]), np.array([1.0, 1.0, 0.0, 0.0])
    assert risk_coverage(sure, right) == pytest.approx([0, 1 / 4, 1 / 3, 1 / 2])  # the two in the middle in any order
    assert aurc(sure, right) == pytest.approx((0 + 1 / 4 + 1 / 3 + 1 / 2) / 4)
    assert [accuracy_at(sure, right, share) for share in (1, 0.75, 0.5, 0.2)] == pytest.approx([1 / 2, 2 / 3, 3 / 4, 1])
    assert aurc(np.zeros(4), right) == 0.5
    order = np.array([[0, 1, 2, 3], [0, 2, 1, 3]])
    slow = [1 - right[one].cumsum() / np.arange(1, 5) for one in order]
    assert risk_coverage(sure, right) == pytest.approx(np.mean(slow, axis=0))


def test_calibration_error_by_hand():
    sure, right = np.repeat([0.2, 0.8], 50), np.r_[np.ones(20), np.zeros(30), np.ones(40), np.zeros(10)]
    assert ece(sure, right) == pytest.approx(0.5 * 0.2)
    assert reliability(sure, right) == [
        {"confidence": pytest.approx(0.2), "right": pytest.approx(0.4), "count": 50},
        {"confidence": pytest.approx(0.8), "right": pytest.approx(0.8), "count": 50},
    ]
    rng, chance = np.random.default_rng(7), ece_by_chance(sure, right)
    errors = [ece(sure, (rng.random(100) < sure).astype(float)) for _ in range(400)]
    assert chance["mean"] == pytest.approx(np.mean(errors), abs=0.005)
    assert np.mean(np.array(errors) > chance["most"]) == pytest.approx(0.05, abs=0.03)
    assert ece(sure, right) > chance["most"]  # 0.4 where 0.2 is said is no chance
    parts = [rng.binomial(6, sure) / 6 for _ in range(400)]  # each right in parts, as captions are
    chance = ece_by_chance(sure, parts[0])
    assert np.mean([ece(sure, one) > chance["most"] for one in parts]) == pytest.approx(0.05, abs=0.04)
    low, high = interval(aurc, sure, right)
    assert low < aurc(sure, right) < high
    assert len(reliability(np.linspace(0, 1, 1000), np.zeros(1000))) == 10


def test_rows_of_one_picture_are_drawn_together():
    """Ten questions a picture, some pictures hard: one by one, 78 % of intervals hold, and 14 % of true maps are called off."""
    rng, held, above = np.random.default_rng(0), np.zeros(2), np.zeros(2)
    pictures = np.repeat(np.arange(40), 10).tolist()
    for trial in range(100):
        sure = rng.uniform(0.2, 0.8, 400)
        hard = np.repeat(rng.choice([-0.2, 0.2], 40), 10)
        right = (rng.random(400) < sure + hard).astype(float)
        for place, clusters in enumerate((pictures, None)):
            low, high = interval(aurc, np.zeros(400), right, clusters=clusters, samples=150, seed=trial)
            held[place] += low <= 0.5 <= high
            above[place] += ece(sure, right) > ece_by_chance(sure, right, clusters, samples=150)["most"]
    assert held[0] >= 90 > held[1]
    assert above[0] <= 10 < above[1]
    each = list(range(400))
    assert ece_by_chance(sure, right, each) == ece_by_chance(sure, right)
    assert interval(aurc, sure, right, clusters=each) == interval(aurc, sure, right)


def test_an_error_of_few_pictures_is_not_hidden_in_chance():
    """Half right where 0.9 is said, of twenty pictures named twice: as flipped, the error is its own chance."""
    sure, right = np.repeat(np.linspace(0.85, 0.95, 20), 2), np.tile([1.0, 1.0, 0.0, 0.0], 10)
    assert ece(sure, right) > 1.5 * ece_by_chance(sure, right, np.repeat(range(20), 2).tolist())["most"]


def test_rows_of_a_picture_each_are_drawn_as_they_are(monkeypatch):
    """A list of an array a row, joined for each sample, is slow."""
    monkeypatch.setattr(np, "split", None)
    assert interval(np.mean, np.arange(60.0))[0] < 29.5


def test_all_right_is_not_certain():
    """Of forty pictures: as in `close evaluate`, up to 9 % might not be, and of the surest half up to 17 %."""
    sure, right = np.linspace(0, 1, 40), np.ones(40)

    def half(order, values):
        return accuracy_at(order, values, 0.5)

    assert interval(half, sure, right) == [1, 1]
    assert interval(half, sure, right, coverage=0.5) == [pytest.approx(0.025 ** (1 / 20)), 1]
    assert interval(aurc, sure, right, coverage=1) == [0, pytest.approx(1 - 0.025 ** (1 / 40))]
    right[:20] = 0  # which are the surest half is not sure either
    assert interval(half, sure, right, coverage=0.5) == interval(half, sure, right)


@pytest.mark.parametrize(
    "values",
    [
        None,
        {},
        {"by": "luck", "x": [0], "y": [0], "weights": [0, 0, 0]},
        {"by": "cosine", "x": [], "y": [], "weights": [0, 0, 0]},
        {"by": "cosine", "x": [0, 0], "y": [0, 1], "weights": [0, 0, 0]},
        {"by": "cosine", "x": [0, 1], "y": [0, 1.5], "weights": [0, 0, 0]},
        {"by": "cosine", "x": [0, "1"], "y": [0, 1], "weights": [0, 0, 0]},
        {"by": "both", "x": [0, 1], "y": [0, 1], "weights": [1e999, 0, 0]},
        {"by": "both", "x": [0, 1], "y": [0, 1], "weights": [1, 0]},
    ],
    ids=str,
)
def test_damaged_maps_are_refused(values):
    with pytest.raises(DataError, match="make it anew with `close calibrate`"):
        Calibration.of(values, "calibration.json")
