"""Streamed statistics against numpy's and scikit-learn's one-shot ones."""

import numpy as np
import pytest
import torch
from sklearn.covariance import oas as sklearn_oas

from close.errors import DataError
from close.vectors.blocks import blocks
from close.vectors.moments import (
    covariance,
    cross_covariance,
    mean,
    oas,
    paired_blocks,
    symmetric_power,
    variance,
)

ROWS = 100_000


@pytest.fixture(scope="module")
def rows():
    """Rows whose mean is large against their spread, where naive sums of squares cancel."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(12, 12))
    return (rng.normal(size=(ROWS, 12)) @ mix * 1e-3 + rng.normal(size=12) * 10).astype(np.float32)


@pytest.mark.parametrize("size", [7, 1000, ROWS])
def test_streaming_equals_one_shot(rows, size):
    exact = rows.astype(np.float64)
    part = exact if size > 7 else exact[:5000]
    source = rows[: len(part)]
    np.testing.assert_allclose(mean(blocks(source, size)), part.mean(0), rtol=1e-12)
    middle, spread = variance(blocks(source, size))
    np.testing.assert_allclose(middle, part.mean(0), rtol=1e-12)
    np.testing.assert_allclose(spread, part.var(0, ddof=1), rtol=1e-9)
    middle, sigma = covariance(blocks(source, size))
    np.testing.assert_allclose(middle, part.mean(0), rtol=1e-12)
    np.testing.assert_allclose(sigma, np.cov(part.T), rtol=1e-7, atol=1e-9 * np.abs(np.cov(part.T)).max())


def test_naive_sums_in_float32_would_fail_here(rows):
    naive = (rows**2).mean(0) - rows.mean(0) ** 2
    assert not np.allclose(naive, rows.astype(np.float64).var(0), rtol=0.1)


def test_cross_covariance(rows):
    x, y = rows[:30_000, :5], rows[:30_000, 5:]
    mean_x, mean_y, cross = cross_covariance(paired_blocks(x, y, 999))
    whole = np.cov(x.T.astype(np.float64), y.T.astype(np.float64))
    np.testing.assert_allclose(cross, whole[:5, 5:], atol=1e-9 * np.abs(whole).max())
    np.testing.assert_allclose(mean_x, x.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(mean_y, y.mean(0, dtype=np.float64), rtol=1e-12)


def test_memory_maps_are_read_block_by_block(rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    sizes = [len(block) for block in blocks(mapped, 8192)]
    assert max(sizes) == 8192
    assert sum(sizes) == ROWS
    torch.testing.assert_close(mean(blocks(mapped)), mean(blocks(rows)), rtol=0, atol=0)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_are_refused(count):
    few = [torch.ones(count, 3)] if count else []
    with pytest.raises(DataError, match="rows"):
        variance(few)


def test_mean_of_nothing_is_refused():
    with pytest.raises(DataError, match="no rows"):
        mean([])


def test_symmetric_power():
    rng = torch.Generator().manual_seed(0)
    thin = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    matrix = thin @ thin.T  # rank 4 of 6
    root = symmetric_power(matrix, 0.5)
    torch.testing.assert_close(root @ root, matrix)
    torch.testing.assert_close(symmetric_power(matrix, -1), torch.linalg.pinv(matrix, hermitian=True))


@pytest.mark.parametrize("count", [20, 200])
def test_shrinkage_is_scikit_learns(rows, count):
    sample = rows[:count].astype(np.float64)
    ours = oas(torch.from_numpy(np.cov(sample.T, bias=True)), count)
    assert ours == pytest.approx(sklearn_oas(sample)[1], rel=1e-9)
    assert oas(torch.eye(5, dtype=torch.float64), count) == 1.0
