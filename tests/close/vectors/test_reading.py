"""Rows as they are handed out: from tables, `.npy` files, and a build that was begun."""

import numpy as np
import pytest

from close.encoders import load_encoder
from close.errors import DataError
from close.vectors.build import TableBuilder
from close.vectors.open import RowVectors
from close.vectors.table import EmbeddingTable

ABOUT = {"encoder": "e", "fingerprint": "f", "modality": "text", "dim": 3}


def test_a_build_whose_folder_was_removed_starts_anew(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    rows = [(str(i), i) for i in range(40)]

    def stopped(chosen):
        if chosen[0] >= 20:
            raise KeyboardInterrupt
        return x[chosen], {}

    with pytest.raises(KeyboardInterrupt):
        TableBuilder(tmp_path / "t", ABOUT, chunk=10).build(rows, stopped)
    for path in (tmp_path / "t.partial").iterdir():
        path.unlink()
    (tmp_path / "t.partial").rmdir()
    assert (tmp_path / "t.partial.json").is_file()
    table = TableBuilder(tmp_path / "t", ABOUT, chunk=10).build(rows, lambda chosen: (x[chosen], {}))
    assert np.allclose(table[:], x / np.linalg.norm(x, axis=1, keepdims=True), atol=1e-6)
    assert not list(tmp_path.glob("t.partial*"))


def test_rows_that_have_a_vector_each_stay_where_they_are(tmp_path):
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    each = EmbeddingTable.from_numpy(x, tmp_path / "each")
    whole = np.asarray(each)
    assert not whole.flags.writeable  # the file, mapped
    assert np.array(each).flags.writeable
    assert np.array_equal(whole, each[:])
    rows = [(str(i), i % 20) for i in range(40)]
    shared = TableBuilder(tmp_path / "shared", ABOUT).build(rows, lambda chosen: (x[chosen], {}))
    assert np.array_equal(np.asarray(shared), shared[:])


def test_whether_a_row_is_scaled_hangs_on_no_other():
    raw = np.diag([1, 1.0008, 1, 2]).astype(np.float32)
    late = np.concatenate((np.tile(raw[:3], (400, 1)), raw))
    for rows, count, nearly in ((RowVectors(raw, "x:"), 4, 1), (RowVectors(late, "x:"), 1204, 1.0008)):
        for chosen in (slice(0, 2), slice(0, count), [1, count - 1], np.arange(count) % 2 == 1):
            assert np.array_equal(rows[chosen], rows[:][chosen])
        assert np.linalg.norm(rows[count - 1 :]) == pytest.approx(1)
        assert np.linalg.norm(rows[1:2]) == pytest.approx(nearly, abs=1e-6)
    for index in (slice(-2, None), slice(0, 3, 1), slice(2, 0, -1), [-2], np.array([False, True, True])):
        with pytest.raises(DataError, match="x: row 1 is zero"):
            RowVectors(np.array([[1, 0], [0, 0], [1, 0]], np.float32), "x:")[index]


def test_no_texts(tiny_encoder):
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    assert encoder.encode_text([]).shape == encoder.encode_image([]).shape == (0, encoder.embed_dim)
