"""Tables of vectors that were made elsewhere: rows of data and vectors meet by the rows' ids and texts, or not at all."""

import json

import numpy as np
import pytest
import tiny

from close.data.rows import RowFile
from close.errors import MismatchError
from close.vectors.given import table_of_vectors
from close.vectors.table import EmbeddingTable


@pytest.fixture
def own(tmp_path):
    """Three rows with four texts and three images between them, and vectors of six numbers."""
    rows = [
        {"id": "a", "source": ["a red dog", "a dog"], "image": "nowhere/a.jpg"},
        {"id": "b", "source": "a blue cat", "image": ["nowhere/b.jpg", "nowhere/c.jpg"]},
        {"id": "c", "source": "a blue cat"},
    ]
    vectors = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    np.save(tmp_path / "T.npy", vectors)
    return tmp_path, tiny.write_jsonl(tmp_path / "rows.jsonl", rows), vectors


def test_vectors_are_found_by_text_and_by_id(own, cli):
    folder, rows, vectors = own
    ran = cli("embed", "vectors", folder / "T.npy", rows, "--encoder", "ours", "--out", folder / "T", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["encoder"] == "ours"
    text = EmbeddingTable(folder / "T")
    assert text.ids[:] == ["a#0", "a#1", "b", "c"]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(text.vectors[text.locate(["a dog"])], unit[1:2], atol=1e-6)
    assert text.parts.tolist() == [True, True, False, False]
    image = table_of_vectors(vectors, RowFile(rows), folder / "V", encoder="ours", modality="image")
    assert image.ids[:] == ["a", "b#0", "b#1", "c"]  # of a row without an image, one is of the row
    assert image.fingerprint == text.fingerprint
    others = table_of_vectors(vectors, str(rows), folder / "W", encoder="theirs", modality="image")
    assert others.fingerprint != text.fingerprint
    known = table_of_vectors(vectors, RowFile(rows), folder / "X", encoder="ours", fingerprint="ab" * 16)
    assert known.fingerprint == "ab" * 16


def test_pictures_have_no_columns(told, tmp_path):
    tiny.picture(tmp_path / "a.png", 0)
    asked = ("embed", "images", tmp_path, "--encoder", "mini", "--columns", "image=1", "--out", tmp_path / "V")
    assert "pictures themselves, which have no columns" in told(*asked)


def test_columns_of_a_table_without_a_header_are_given(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [tiny.picture(tmp_path / f"{n}.png", n).name for n in range(4)]
    (tmp_path / "t.csv").write_text("".join(f"{n},a dog {n},{name}\n" for n, name in enumerate(names)))
    np.save(tmp_path / "T.npy", np.eye(4, 6, dtype=np.float32))
    for what in (("vectors", "T.npy", "t.csv"), ("text", "t.csv"), ("images", "t.csv")):
        ran = cli("embed", *what, "--encoder", "mini", "--columns", "caption=1,image=2", "--out", what[0])
        assert ran.code == 0, ran
        assert len(EmbeddingTable(what[0])) == 4
    assert EmbeddingTable("vectors").locate(["a dog 2"]).tolist() == [2]


def test_what_does_not_fit_leaves_nothing_behind(own, told):
    folder, rows, vectors = own
    there = {path.name for path in folder.iterdir()}
    given = ("embed", "vectors", folder / "T.npy", rows, "--encoder", "ours", "--out", folder / "T")
    np.save(folder / "T.npy", vectors[:3])
    assert "T.npy: 4 ids for 3 vectors: " in (line := told(*given))
    assert "rows.jsonl has 4 'source' texts and each needs a vector" in line
    vectors[2, 1] = np.nan
    np.save(folder / "T.npy", vectors)
    assert "T.npy: the vector of row 2 is not finite" in told(*given)
    np.save(folder / "T.npy", np.array([["a"] * 6] * 4))
    assert "T.npy" in told(*given)
    with pytest.raises(MismatchError, match=r"4 images, a row each, and each needs a vector"):
        table_of_vectors(vectors[:2], RowFile(rows), folder / "T", encoder="ours", modality="image")
    assert {path.name for path in folder.iterdir()} == there


def test_numbers_in_a_tables_place_are_told_from_texts(own, told):
    folder, rows, _ = own
    (folder / "r.yaml").write_text(json.dumps({"data": {"train": str(rows), "embeddings": str(folder / "T.npy")}}))
    assert f"`close embed vectors {folder / 'T.npy'} ROWS --encoder" in told(
        "train", folder / "r.yaml", "--out", folder / "r"
    )
