"""Intervals and paired tests against closed forms, slow loops and simulated coverage."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from close.errors import MismatchError
from close.evaluation.bootstrap import SummedScore, compare_summed, intervals, mean_score, ratio_score


def test_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(50, 10, 2000)
    low, high = intervals({"m": mean_score(values)}, samples=4000)["m"]
    half = 1.96 * values.std() / np.sqrt(2000)
    assert low == pytest.approx(values.mean() - half, abs=0.05)
    assert high == pytest.approx(values.mean() + half, abs=0.05)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng, hits = np.random.default_rng(1), 0
    for n in range(300):
        low, high = intervals({"m": mean_score(rng.exponential(1.0, 200))}, samples=300, seed=n)["m"]
        hits += low <= 1.0 <= high
    assert 0.90 < hits / 300 < 0.98


@pytest.mark.parametrize("count", [10, 20])
def test_intervals_of_few_examples_cover_too(count: int) -> None:
    """Of 400 means, and of 400 differences, of normal values; without being widened, 87 and 92 % of the intervals held it."""
    rng, held = np.random.default_rng(3), np.zeros(2)
    for n in range(400):
        a, b = (mean_score(rng.normal(30, 10, count)) for _ in range(2))
        ends = intervals({"m": a}, samples=300, seed=n)["m"], compare_summed(a, b, samples=300, seed=n)["ci"]
        held += [low <= truth <= high for (low, high), truth in zip(ends, (30, 0), strict=True)]
    assert held / 400 == pytest.approx([0.95, 0.95], abs=0.03)


def test_a_widened_interval_stays_on_its_scale() -> None:
    low, high = intervals({"m": mean_score([0.0] * 2 + [100.0] * 9)})["m"]
    assert 0 < low < 82 < high == 100


def test_one_seed_one_interval_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = mean_score(np.arange(50.0))
    first = intervals({"m": measure}, seed=5)
    assert first == intervals({"m": measure}, seed=5)
    assert first != intervals({"m": measure}, seed=6)


def test_a_ratio_is_resampled_as_a_ratio() -> None:
    rng = np.random.default_rng(2)
    statistics = rng.integers(1, 20, (80, 2)).astype(float)
    ratio = SummedScore(statistics[:, 0], statistics, lambda sums: sums[..., 0] / sums[..., 1])
    slow = []
    for _ in range(3000):
        drawn = rng.integers(0, 80, 80)
        slow.append(statistics[drawn, 0].sum() / statistics[drawn, 1].sum())
    np.testing.assert_allclose(intervals({"r": ratio}, samples=3000)["r"], np.percentile(slow, [2.5, 97.5]), rtol=0.02)
    assert ratio.value == statistics[:, 0].sum() / statistics[:, 1].sum()


def test_paired_test_against_every_exchange() -> None:
    a, b = np.array([10.0, 20, 30, 40, 50, 60, 70]), np.array([13.0, 22, 29, 46, 55, 61, 78])
    found = compare_summed(mean_score(a), mean_score(b), samples=20000)
    difference = b - a
    exchanged = [abs((np.array(signs) * difference).sum()) for signs in itertools.product((1, -1), repeat=7)]
    exact = np.mean([e >= abs(difference.sum()) - 1e-9 for e in exchanged])
    assert found["p"] == pytest.approx(exact, abs=0.01)
    assert found["difference"] == pytest.approx(difference.mean())
    assert found["a"] == pytest.approx(40)
    assert found["ci"] is None  # of so few


def test_paired_interval_is_that_of_the_differences() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(50, 20, 1000)
    b = a + rng.normal(1, 2, 1000)  # the runs differ far less than the examples do
    low, high = compare_summed(mean_score(a), mean_score(b), samples=3000)["ci"]
    half = 1.96 * (b - a).std() / np.sqrt(1000)
    assert (low, high) == pytest.approx(((b - a).mean() - half, (b - a).mean() + half), abs=0.03)


def test_no_difference_is_called_one_about_as_often_as_it_should() -> None:
    rng, called = np.random.default_rng(4), 0
    for n in range(300):
        a, b = rng.normal(0, 1, (2, 60))
        called += compare_summed(mean_score(a), mean_score(b), samples=200, seed=n)["p"] < 0.05
    assert 5 <= called <= 28


def test_equal_runs() -> None:
    same = replace(mean_score(np.arange(10.0)), scale=(0, None))
    assert compare_summed(same, same, samples=100) == {"a": 4.5, "b": 4.5, "difference": 0, "ci": [0, 0], "p": 1}


def test_nothing_to_resample() -> None:
    assert intervals({}) == {}
    assert intervals({"m": mean_score([])}) == {}
    assert intervals({"m": mean_score([1.0])}, samples=0) == {}


def test_different_numbers_of_examples_are_refused() -> None:
    with pytest.raises(MismatchError, match="3"):
        intervals({"a": mean_score([1.0]), "b": mean_score([1.0, 2, 3])})
    with pytest.raises(MismatchError, match="1 and 3"):
        compare_summed(mean_score([1.0]), mean_score([1.0, 2, 3]))


def test_examples_of_one_image_are_drawn_and_exchanged_together() -> None:
    """With five questions an image and difficulty by image, intervals cover and tests err as they say they do."""
    rng, covered, found, alone = np.random.default_rng(4), 0, 0, 0
    images = np.repeat(np.arange(60), 5).tolist()
    for n in range(200):
        hard = np.repeat(rng.beta(0.8, 0.8, (2, 60)), 5, axis=1)
        a, b = (mean_score(100.0 * (rng.random(300) < one)) for one in hard)
        low, high = intervals({"m": a}, clusters=images, samples=300, seed=n)["m"]
        covered += low <= 50 <= high
        found += compare_summed(a, b, clusters=images, samples=300, seed=n)["p"] < 0.05
        alone += compare_summed(a, b, samples=300, seed=n)["p"] < 0.05
    assert covered >= 0.9 * 200
    assert found <= 0.1 * 200 < alone
    each = compare_summed(a, b, clusters=list(range(300)), samples=300)
    assert each == compare_summed(a, b, samples=300)


def test_a_difference_that_is_the_same_everywhere() -> None:
    """Of twelve, as many may hide as of a share that is all right."""
    wrong, right, unseen = mean_score(np.zeros(12)), mean_score(np.full(12, 100.0)), 1 - 0.025 ** (1 / 12)
    assert compare_summed(wrong, right)["ci"] == pytest.approx([100 - 200 * unseen, 100])
    assert compare_summed(right, wrong)["ci"] == pytest.approx([-100, 200 * unseen - 100])
    part = mean_score([33.3] + 11 * [100.0])  # VQA, or what several seeds have right
    for same in (right, part):
        assert compare_summed(same, same)["ci"] == pytest.approx([-100 * unseen, 100 * unseen])
    pictures = [n // 2 for n in range(24)]
    many = mean_score(np.full(24, 100.0))
    assert compare_summed(many, many, clusters=pictures)["ci"] == pytest.approx([-100 * unseen, 100 * unseen])
    free = replace(right, scale=(0, None))  # of what is no share, nothing is known
    assert compare_summed(free, free)["ci"] == [0, 0]


def test_an_interval_where_nothing_varies() -> None:
    assert intervals({"m": mean_score(np.arange(9.0))}) == {}
    assert intervals({"m": mean_score(np.arange(20.0))}, clusters=["a", "b"] * 10) == {}
    low, high = intervals({"m": mean_score([100.0] * 20)})["m"]
    assert high == 100
    assert low == pytest.approx(100 * 0.025 ** (1 / 20))
    assert intervals({"m": mean_score([0.0] * 20)})["m"] == [0.0, pytest.approx(100 - low)]
    claims = ratio_score([100.0] * 20 + [0.0], [*range(1, 21), 0])  # one caption claims nothing
    assert intervals({"m": claims})["m"] == [pytest.approx(low), 100.0]
    nothing = {"m": ratio_score([0.0] * 20, [0] * 20), "right": mean_score([100.0] * 20)}
    assert intervals(nothing).keys() == {"right"}
