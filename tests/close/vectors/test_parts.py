"""Folders of `.npy` parts are taken wherever one file is, in the order of their numbers."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from close.data.shards import is_rows
from close.errors import CloseError, DataError, MissingError
from close.io.keys import file_key
from close.vectors.open import open_vectors
from close.vectors.table import EmbeddingTable

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(240, 16))
TEXT = (ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)).astype(np.float16)
MOVED = ROWS + RNG.normal(size=16) / 2
IMAGE = (MOVED / np.linalg.norm(MOVED, axis=1, keepdims=True)).astype(np.float16)


def parts(folder: Path, rows: np.ndarray, name: str, cuts: tuple[int, ...] = (20, 90)) -> Path:
    folder.mkdir(parents=True)
    for number, part in enumerate(np.split(rows, cuts)):
        np.save(folder / f"{name}{number + 8}.npy", part)  # 8, 9, 10: not the order of their names
    return folder


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    """As clip-retrieval leaves them."""
    import pyarrow as pa
    from pyarrow import parquet

    folder = tmp_path / "embeddings"
    parts(folder / "img_emb", IMAGE, "img_emb_")
    parts(folder / "text_emb", TEXT, "text_emb_")
    (folder / "metadata").mkdir()
    parquet.write_table(pa.table({"image_path": ["a"], "caption": ["b"]}), folder / "metadata" / "metadata_0.parquet")
    return folder


def test_rows_are_those_of_one_file(embeddings, tmp_path):
    np.save(tmp_path / "one.npy", TEXT)
    one, many = open_vectors(tmp_path / "one.npy"), open_vectors(embeddings / "text_emb")
    assert many.shape == one.shape == (240, 16)
    for index in (slice(None), slice(15, 95), slice(None, None, -7), [239, 0, 20, 20, -1], np.arange(240) % 3 == 0):
        assert (many[index] == one[index]).all()
    assert np.asarray(many).dtype == np.float16
    assert (np.asarray(many) == TEXT).all()
    assert (pickle.loads(pickle.dumps(many))[:] == one[:]).all()
    with pytest.raises(IndexError):
        many[np.array([240])]


def test_layouts(embeddings, tmp_path):
    for side, wanted in (("text", TEXT), ("image", IMAGE)):
        assert (np.asarray(open_vectors(embeddings, side)) == wanted).all()
        assert (np.asarray(open_vectors(embeddings / {"text": "text_emb", "image": "img_emb"}[side])) == wanted).all()
    with pytest.raises(DataError, match=r"several kinds of \.npy files \(img_emb/img_emb, text_emb/text_emb\)"):
        open_vectors(embeddings)
    flat = tmp_path / "flat"
    for place in sorted(embeddings.rglob("*.*")):
        flat.mkdir(exist_ok=True)
        shutil.copy(place, flat / place.name)
    assert (np.asarray(open_vectors(flat, "image")) == IMAGE).all()
    assert not is_rows(flat)  # the Parquet beside them is about them
    padded = parts(tmp_path / "padded", TEXT, "part-0000")
    assert (np.asarray(open_vectors(padded, "image")) == TEXT).all()


def test_parts_that_do_not_fit(tmp_path, caplog):
    folder = parts(tmp_path / "p", TEXT, "x")
    (folder / "x9.npy").unlink()
    assert open_vectors(folder).shape == (170, 16)
    assert "parts are missing (9)" in caplog.text
    np.save(folder / "x09.npy", TEXT)
    np.save(folder / "x9.npy", TEXT)
    with pytest.raises(DataError, match="two parts of one number"):
        open_vectors(folder)
    (folder / "x09.npy").unlink()
    for wrong, words in (
        (TEXT[:, :4], "rows of 4 numbers"),
        (TEXT[0], r"expected \(N, D\)"),
        (TEXT.astype(int), "found int64"),
    ):
        np.save(folder / "x9.npy", wrong)
        with pytest.raises(DataError, match=rf"x9\.npy: .*{words}"):
            open_vectors(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="no embedding table there"):
        open_vectors(tmp_path / "empty")


def test_a_part_without_rows(tmp_path):
    folder = parts(tmp_path / "p", TEXT, "x", cuts=(20, 20))
    assert (np.asarray(open_vectors(folder)) == TEXT).all()
    assert open_vectors(folder)[10:30].shape == (20, 16)


def test_wherever_a_file_is_taken(embeddings, tmp_path, cli: Callable):
    text, image = embeddings / "text_emb", embeddings / "img_emb"
    ran = cli("gap", "--text", text, "--image", image, "--json")
    assert (ran.code, '"texts": 240' in ran.out or "240" in ran.out) == (0, True), ran.err
    assert cli("gap", "--text", embeddings, "--image", embeddings, "--json").out == ran.out
    ran = cli("adapter", "fit", "mean_shift", "--text", text, "--image", image, "--out", tmp_path / "a")
    assert ran.code == 0, ran.err
    assert EmbeddingTable.from_numpy(text, tmp_path / "t").shape == (240, 16)


def test_a_folder_has_another_key_when_a_part_changes(embeddings):
    before = file_key(embeddings)
    assert file_key(embeddings) == before
    np.save(embeddings / "img_emb" / "img_emb_9.npy", IMAGE)
    assert file_key(embeddings) != before


def test_none_of_it_is_a_traceback(tmp_path):
    folder = parts(tmp_path / "p", TEXT, "x")
    whole = (folder / "x9.npy").read_bytes()
    for cut in range(0, len(whole), 37):
        (folder / "x9.npy").write_bytes(whole[:cut])
        with pytest.raises(CloseError):
            open_vectors(folder)
