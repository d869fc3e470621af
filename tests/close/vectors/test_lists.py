"""Search in lists: nearly all of the exact neighbours, never one that is left out, and what is said without faiss."""

from __future__ import annotations

import numpy as np
import pytest

from close.errors import MissingError
from close.vectors import lists
from close.vectors.lists import nearest_in_lists
from close.vectors.neighbours import nearest

ROWS, DIM, K = 6000, 32, 5


@pytest.fixture(scope="module")
def rows():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, DIM))[rng.integers(40, size=ROWS)] + 0.7 * rng.standard_normal((ROWS, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_nearly_all_of_the_exact_neighbours_in_their_order(rows, caplog):
    told = []
    with caplog.at_level("INFO", logger=lists.__name__):
        found = nearest_in_lists(rows[::3], rows, K, progress=lambda *so_far: told.append(so_far))
    exact, _ = nearest(rows[::3], rows, K)
    assert (found[:, 0] == np.arange(0, ROWS, 3)).mean() > 0.99
    assert np.mean([len({*ours} & {*theirs}) / K for ours, theirs in zip(found, exact, strict=True)]) > 0.96
    products = np.take_along_axis(rows[::3] @ rows.T, found, axis=1)
    assert (np.diff(products, axis=1) <= 1e-6).all()
    assert told[-1] == (2000, 2000)
    probed, of = map(int, np.array(caplog.messages[-1].split())[[1, 3]])
    assert probed < of == int(4 * ROWS**0.5)  # a part of them was searched


def test_more_is_searched_where_more_is_asked_for(rows, caplog):
    with caplog.at_level("INFO", logger=lists.__name__):
        for recall in (0.5, 0.999):
            nearest_in_lists(rows[:300], rows, K, recall=recall)
    few, many = (int(message.split()[1]) for message in caplog.messages)
    assert few < many


def test_what_is_left_out_is_never_found(rows):
    """Half of the queries leave out themselves and their nearest, the last one all but two."""
    some, exact = rows[:40], nearest(rows[:40], rows, K)[0]
    own = [exact[i] if i % 2 else np.array([], np.int64) for i in range(39)] + [np.arange(2, ROWS)]
    without = np.cumsum([0, *map(len, own)]), np.concatenate(own)
    found = nearest_in_lists(some, rows, K, without=without)
    for row in range(39):
        assert not {*found[row]} & {*own[row]}
        assert (found[row] >= 0).all()
    assert {*found[39][:2]} == {0, 1}
    assert found[39][2:].tolist() == [-1] * 3


def test_few_rows_are_all_found(rows):
    found = nearest_in_lists(rows[:3], rows[:3], 5)
    assert [{*row} for row in found] == [{0, 1, 2, -1}] * 3


def test_without_faiss_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(lists, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"needs faiss: pip install 'close-toolkit\[faiss\]'"):
        nearest_in_lists(np.eye(3), np.eye(3), 1)
