"""Nearest neighbours in tiles against sorting everything, equal ones included."""

import numpy as np
import pytest

from close.errors import DataError
from close.vectors.neighbours import nearest, nearest_across, nearest_within


def unit(rows, width=16, seed=0):
    found = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def whole(rows, width=16, seed=0):
    """Small whole numbers, whose products are exact in whatever order they are summed; many are equal."""
    return np.random.default_rng(seed).integers(-9, 10, size=(rows, width)).astype(np.float32)


@pytest.fixture(params=[(1024, 4096), (7, 13), (40, 3), (3, 1), (2, 200)])
def tiles(request, monkeypatch):
    """Sizes of tiles, larger and smaller than k and than the tables, with groups and without."""
    monkeypatch.setattr("close.vectors.neighbours.TILE", request.param)
    monkeypatch.setattr("close.vectors.neighbours.HELD", 2)
    monkeypatch.setattr("close.vectors.neighbours.GROUP", 4)


def sorted_keys(scores, k):
    """Best first; equal ones in the order of the keys."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def test_nearest_against_sorting(tiles):
    queries, gallery = unit(30), unit(50, seed=1)
    gallery[10] = gallery[40]
    indices, cosines = nearest(queries, gallery, k=4)
    for query, row, values in zip(queries, indices, cosines, strict=True):
        slow = sorted(range(50), key=lambda j: (-float(query @ gallery[j]), j))[:4]
        assert list(row) == slow
        np.testing.assert_allclose(values, [query @ gallery[j] for j in slow], atol=1e-6)
    assert nearest(queries, gallery[:2], k=10)[0].shape == (30, 2)


def test_of_equal_ones_the_first_are_kept(tiles):
    few = np.eye(4, dtype=np.float32)
    gallery = few[np.random.default_rng(0).integers(4, size=60)]  # every product is exactly 0 or 1
    assert np.array_equal(nearest(few, gallery, k=20)[0], sorted_keys(few @ gallery.T, 20))


def test_one_product_serves_both_directions(tiles):
    text, image = unit(45), unit(38, seed=1)
    found = nearest_across(text, image, k=5)
    assert np.array_equal(found.images_of_text, sorted_keys(text @ image.T, 5))
    assert np.array_equal(found.texts_of_image, sorted_keys(image @ text.T, 5))


def test_a_row_is_not_its_own_neighbour(tiles):
    rows = unit(41)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    assert np.array_equal(nearest_within(rows, k=6), sorted_keys(scores, 6))


@pytest.mark.parametrize("k", [1, 5, 30])
def test_what_is_left_out_is_not_found(tiles, k):
    rng = np.random.default_rng(0)
    queries, keys = whole(33), whole(171, seed=1)
    hidden = [np.sort(rng.choice(171, rng.integers(150), replace=False)) for _ in queries]
    hidden[5], hidden[6] = np.arange(171), np.arange(1, 171)  # nothing is left of all, and one
    scores = queries @ keys.T
    for row, some in zip(scores, hidden, strict=True):
        row[some] = -np.inf
    bounds = np.cumsum([0, *map(len, hidden)])
    found, values = nearest(queries, keys, k, without=(bounds, np.concatenate(hidden)))
    expected = np.where(np.isinf(-np.sort(-scores, axis=1)[:, :k]), -1, sorted_keys(scores, k))
    assert np.array_equal(found, expected)
    assert np.array_equal(values, -np.sort(-scores, axis=1)[:, :k])


def test_of_many_keys_the_first_of_equal_ones():
    """Sizes at which groups are looked at, and the last columns beside them."""
    queries, keys = whole(1500, width=4), whole(9001, width=4, seed=1)
    assert np.array_equal(nearest(queries, keys, 7)[0], sorted_keys(queries @ keys.T, 7))


def test_different_widths_are_refused():
    with pytest.raises(DataError, match="can't be compared"):
        nearest(unit(2), unit(2, width=8))
