"""What a sweep may claim: closed forms, and how often nothing is taken for something."""

import numpy as np
import pytest
from scipy import stats

from close.study.claims import claims, compared, nested_interval, sentence


def by_setting(values):
    return {f"s{place}": row for place, row in enumerate(np.asarray(values, float))}


def test_settings_that_matter_are_what_the_interval_is_over():
    rng = np.random.default_rng(0)
    means = np.array([1.0, 9.0, 4.0, 6.0])
    values = means[:, None] + 0.1 * rng.normal(size=(4, 3))
    found = nested_interval(values)
    assert found == pytest.approx(stats.t.interval(0.95, 3, *_mean(values.mean(axis=1))))
    assert nested_interval(values[:, :1]) == pytest.approx(stats.t.interval(0.95, 3, *_mean(values[:, 0])))


def test_settings_that_do_not_matter_are_more_seeds():
    values = np.array([[1.0, 5.0, 3.0], [5.0, 1.0, 3.1], [3.0, 1.0, 5.1], [1.0, 3.0, 5.0]])
    assert nested_interval(values, 0.9) == pytest.approx(stats.t.interval(0.9, 11, *_mean(values.ravel())))
    few = values[:2]  # of which no one can tell whether they matter
    assert nested_interval(few, 0.9) == pytest.approx(stats.t.interval(0.9, 1, *_mean(few.mean(axis=1))))
    assert nested_interval(values[:1]) == pytest.approx(stats.t.interval(0.95, 2, *_mean(values[0])))
    assert nested_interval(values[:1, :1]) is None


def _mean(values):
    return float(np.mean(values)), float(stats.sem(values))


def test_what_is_ahead_and_where():
    noise = np.array([[0.0, 0.2, -0.2], [0.1, -0.1, 0.0]])
    low = by_setting(10 + noise)
    everywhere, tuned = by_setting(14 + noise[::-1]), by_setting(np.array([[14.0], [8.0]]) + noise[::-1])
    found = claims({"a": everywhere, "b": low}, {"a": everywhere, "b": low})
    one = found["ahead_of"]["b"]
    assert (found["best"], one["verdict"], found["comparisons"]) == ("a", "ahead", 1)
    spread = np.sqrt((noise[::-1] - noise).var(axis=1, ddof=1).mean() / 3)  # of paired differences, over all settings
    half = stats.t.ppf(1 - 0.05 / 4, 4) * spread  # two ways to be ahead
    assert one["worst"]["ci"] == pytest.approx([4 - half, 4 + half])
    assert "a is ahead of b by 4.0 [" in sentence(found, "cider")
    found = claims({"a": tuned, "b": low}, {"a": tuned, "b": low})
    assert found["methods"]["a"]["tuned"]["setting"] == "s0"
    assert found["ahead_of"]["b"]["verdict"] == "ahead when tuned"
    assert "but not in each setting" in sentence(found, "cider")
    assert claims({"a": tuned, "b": low}, None)["ahead_of"]["b"]["verdict"] == "open"
    other = claims({"a": low, "b": everywhere}, None, higher_is_better=False)
    assert (other["best"], other["ahead_of"]["b"]["verdict"]) == ("a", "ahead")
    one_seed = {method: by_setting(np.array([[value]])) for method, value in (("a", 1), ("b", 9))}
    assert "nothing may be claimed" in sentence(claims(one_seed, None), "cider")


def test_a_lucky_setting_is_not_ahead():
    """Chosen on other rows, and judged on these."""
    rng = np.random.default_rng(3)
    test, tuning = (rng.normal(size=(8, 3)) for _ in range(2))
    found = claims(
        {"a": by_setting(test), "b": by_setting(test[::-1])}, {"a": by_setting(tuning), "b": by_setting(tuning)}
    )
    assert found["methods"]["a"]["tuned"]["setting"] == f"s{tuning.mean(axis=1).argmax()}"
    assert found["ahead_of"][next(iter(found["ahead_of"]))]["verdict"] == "open"


def test_methods_tuned_to_different_settings_share_no_seeds():
    rng = np.random.default_rng(4)
    luck = rng.normal(size=(2, 3))
    first, second = 5 + luck + 0.01 * rng.normal(size=(2, 3)), luck
    one, other = by_setting(first + np.array([[1.0], [0.0]])), by_setting(second + np.array([[0.0], [1.0]]))
    found = compared({"a": one, "b": other}, {"a": one, "b": other}, "a", "b")
    means = [np.mean([*x.values()], axis=1) for x in (one, other)]
    chosen = [int(np.argmax(mean)) for mean in means]
    assert chosen[0] != chosen[1]
    variances = [np.var([*x.values()], axis=1, ddof=1).mean() for x in (one, other)]
    half = stats.t.ppf(1 - 0.05 / 4, 4) * np.sqrt(sum(variances) / 3)
    middle = means[0].max() - means[1].max()
    assert found["tuned"]["ci"] == pytest.approx([middle - half, middle + half])
    paired = found["worst"]["ci"][1] - found["worst"]["ci"][0]
    assert paired < 0.1 * 2 * half  # in one setting, what a seed does is done to both
    back = compared({"a": one, "b": other}, {"a": one, "b": other}, "b", "a")
    assert back["worst"]["difference"] == pytest.approx(-(means[0] - means[1]).max())  # the worst of this claim


@pytest.mark.parametrize(("methods", "settings", "moved"), [(6, 4, 3.0), (6, 2, 1.0), (3, 4, 0.0), (6, 1, 0.0)])
@pytest.mark.parametrize("is_tuned", [True, False])
def test_of_equal_methods_few_sweeps_claim_anything(methods, settings, moved, is_tuned):
    """200 sweeps of methods that are the same; a run that was lucky is so on the rows to tune on too."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(200):
        moves = rng.normal(0, moved, (settings, 1))
        luck = [rng.normal(size=(settings, 3)) + moves for _ in range(methods)]
        test, tuning = (
            {f"m{i}": by_setting(x + rng.normal(0, 0.3, x.shape)) for i, x in enumerate(luck)} for _ in range(2)
        )
        found = claims(test, tuning if is_tuned else None)
        wrong += any(one["verdict"] != "open" for one in found["ahead_of"].values())
    assert wrong / 200 <= 0.05
