"""Runs of vectors alone: scored on a table of the rows' vectors as by their encoder, which need not be there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from huggingface_hub import ModelCard

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import DataError, MismatchError
from close.runs.card import Shown
from close.runs.evaluate import evaluate, evaluated
from close.runs.publish import pack
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
def test_a_table_stands_in_for_the_encoder(run, rows, tables, modality, tmp_path, monkeypatch):
    settings = {"modality": modality, "tokenizer": "python"}
    read = evaluate(run, rows, **settings)
    monkeypatch.setattr("close.runs.answering.load_encoder", lambda *_, **__: pytest.fail("the encoder was loaded"))
    fed = evaluate(run, rows, vectors=tables[modality].path, **settings)
    assert fed["scores"] == read["scores"]
    assert fed["vectors"] == {"table": str(tables[modality].path), "sum": tables[modality].info["plan"]}
    assert "vectors" not in read
    monkeypatch.undo()
    kept = {place: (Path(place) / "scores.json").read_text() for place in (read["folder"], fed["folder"])}
    assert len(kept) == 2
    assert evaluated(run, rows, modality) == evaluated(run, rows, modality, tables[modality]) == read["scores"]
    other = EmbeddingTable.from_numpy(
        tables[modality][::-1], tmp_path / "other", ids=tables[modality].ids[:], modality=modality,
        texts=[row.source[0] for row in RowFile(rows)], encoder="x", fingerprint=tables[modality].fingerprint,
    )  # fmt: skip
    assert evaluated(run, rows, modality, other) != read["scores"]
    assert evaluate(run, rows, vectors=other, **settings)["folder"] not in kept  # each has a folder of its own
    assert kept == {place: (Path(place) / "scores.json").read_text() for place in kept}


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


def test_a_card_says_which_scores_are_of_given_vectors(run, rows, tables, tiny_encoder, tmp_path):
    """Beside those of the same rows that the encoder read, and in what the hub reads."""
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations"))
    shutil.copytree(tables["image"].path, tmp_path / "my_V")
    evaluate(folder, rows, tokenizer="python", encoder=str(tiny_encoder))
    evaluate(folder, rows, vectors=tmp_path / "my_V", tokenizer="python")
    card = ModelCard(pack(folder, Shown("me/birds")).card)
    assert "(12, image) | " in card.text
    assert "(12, image vectors) | " in card.text
    assert (
        "Scores of vectors are of tables that were given (`my_V`): the encoder read no picture for them." in card.text
    )
    said = {result.metric_args.get("vectors") for result in card.data.eval_results}
    assert said == {None, "my_V"}
    assert len({result.dataset_name for result in card.data.eval_results}) == 2
    (page,) = (path for path in folder.rglob("report.html") if "fed given vectors of images" in path.read_text())
    assert page.parent.name != "eval-image"
