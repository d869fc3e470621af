"""Runs of vectors alone: scored on a table of the rows' vectors as by their encoder, which need not be there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import DataError, MismatchError
from close.runs.evaluate import evaluate, evaluated
from close.training.train import train
from close.vectors.build import embed_images, embed_texts, images_of
from close.vectors.given import table_of_vectors
from close.vectors.table import EmbeddingTable


@pytest.fixture(scope="module")
def rows(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rows with picture, source and references."""
    texts = tiny.sentences(24, seed=5)
    return tiny.write_jsonl(
        tmp_path_factory.mktemp("rows") / "eval.jsonl",
        [
            {"id": f"e{i}", "source": texts[2 * i], "references": texts[2 * i : 2 * i + 2], "image": str(picture)}
            for i, picture in enumerate(sorted(pictures.iterdir()))
        ],
    )


@pytest.fixture(scope="module")
def tables(rows: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, EmbeddingTable]:
    """Of the rows' texts and pictures, by the run's encoder."""
    folder, encoder = tmp_path_factory.mktemp("tables"), load_encoder(str(tiny_encoder))
    image = embed_images(images_of(RowFile(rows)), encoder, folder / "V")
    return {"text": embed_texts(RowFile(rows), encoder, folder / "T"), "image": image}


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_table_stands_in_for_the_encoder(run, rows, tables, modality, monkeypatch):
    settings = {"modality": modality, "tokenizer": "python"}
    read = evaluate(run, rows, **settings)
    monkeypatch.setattr("close.runs.answering.load_encoder", lambda *_, **__: pytest.fail("the encoder was loaded"))
    fed = evaluate(run, rows, vectors=tables[modality].path, **settings)
    assert fed["scores"] == read["scores"]
    assert fed["vectors"] == {"table": str(tables[modality].path), "sum": tables[modality].info["plan"]}
    assert "vectors" not in read
    monkeypatch.undo()
    made = Path(fed["folder"]) / "scores.json"
    assert evaluated(run, rows, modality) == read["scores"]  # made anew: of the encoder
    assert "vectors" not in json.loads(made.read_text())


@pytest.fixture(scope="module")
def ours(captions, rows, tables, tiny_encoder, tiny_t5, tmp_path_factory) -> Path:
    """A run of an encoder that is nowhere, in a folder with tables of its vectors, T and V."""
    from close.runs.recipe import Recipe

    folder = tmp_path_factory.mktemp("ours")
    texts = [row.source[0] for row in RowFile(captions)]
    vectors = load_encoder(str(tiny_encoder)).text_features(texts).numpy()
    table_of_vectors(vectors, RowFile(captions), folder / "T", encoder="ours")
    table_of_vectors(np.asarray(tables["image"]), RowFile(rows), folder / "V", encoder="ours", modality="image")
    data = {"train": str(captions), "embeddings": str(folder / "T")}
    models = {"encoder": "ours", "language_model": str(tiny_t5)}
    train(Recipe.model_validate({"data": data, **models, "training": {"max_steps": 3}}), folder / "run")
    return folder


def test_a_run_of_vectors_alone_is_scored(ours, rows, cli, told, tmp_path):
    given = ("evaluate", ours / "run", rows, "--tokenizer", "python")
    ran = cli(*given, "--vectors", ours / "V", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["scores"]["n"] == 12
    assert "was made for other rows" not in ran.err
    other = tiny.write_jsonl(tmp_path / "other.jsonl", [json.loads(line) | {"meta": {}} for line in rows.open()])
    said = cli("evaluate", ours / "run", other, "--tokenizer", "python", "--vectors", ours / "V", "--json").err
    assert "V was made for other rows than " in said
    assert "its encoder 'ours' (weights " in told(*given)
    assert "its encoder 'ours' (weights " in told(*given, "--vectors", ours / "V", "--metric", "clip_score")
    assert "V holds image embeddings, and what is fed is modality 'text'" in told(
        *given, "--vectors", ours / "V", "--modality", "text"
    )
    np.save(tmp_path / "V.npy", np.eye(12))
    assert "V.npy ROWS --encoder" in told(*given, "--vectors", tmp_path / "V.npy")


def test_rows_and_vectors_meet_by_id(ours, rows, tmp_path):
    table = EmbeddingTable(ours / "V")
    about = {"encoder": "ours", "fingerprint": table.fingerprint, "modality": "image"}
    few = EmbeddingTable.from_numpy(table[::-1][:11], tmp_path / "few", ids=table.ids[:][::-1][:11], **about)
    place = {"folder": tmp_path / "e", "tokenizer": "python"}
    with pytest.raises(DataError, match=r"row 'e0' has no vector in .*few; --missing skip"):
        evaluate(ours / "run", rows, vectors=few, missing="error", **place)
    skipped = evaluate(ours / "run", rows, vectors=few, missing="skip", **place)
    assert skipped["scores"]["n"] == 11
    assert skipped["unreadable"] == [{"id": "e0", "reason": f"no vector in {few.path}"}]
    said = [json.loads(line) for line in (tmp_path / "e" / "predictions.jsonl").read_text().splitlines()]
    whole = evaluate(ours / "run", rows, vectors=table, folder=tmp_path / "w", tokenizer="python")
    lines = [json.loads(line) for line in (Path(whole["folder"]) / "predictions.jsonl").read_text().splitlines()]
    assert {one["id"]: one["text"] for one in said} == {one["id"]: one["text"] for one in lines if one["id"] != "e0"}
    about["fingerprint"] = "theirs"
    with pytest.raises(MismatchError, match="comes from encoder 'ours'"):
        evaluate(ours / "run", rows, vectors=EmbeddingTable.from_numpy(table[:], tmp_path / "x", **about))
