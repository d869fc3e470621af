"""A whole comparison from tables of vectors alone, of an encoder that is nowhere: the scores that its own encoder gives."""

from __future__ import annotations

import csv
import html
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.vectors.given import table_of_vectors
from close.vectors.table import EmbeddingTable

ARMS = ("--adapter", "mean_shift", "--noise", "0.67", "--seeds", "1", "--json")


def _rows(place: Path, texts: list[str], seed: int) -> Path:
    """Rows of a picture each, and of two captions, one of which is the source."""
    pictures = [tiny.picture(place.parent / f"{place.stem}{i}.png", seed + i).name for i in range(len(texts) // 2)]
    rows = [
        {"id": f"{place.stem}{i}", "source": texts[2 * i], "image": pictures[i], "references": texts[2 * i : 2 * i + 2]}
        for i in range(len(pictures))
    ]
    return tiny.write_jsonl(place, rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_t5: Path) -> Path:
    """Rows, the recipe of the mini encoder, and tables of its vectors as of an encoder that can't be loaded."""
    folder, texts, mini = tmp_path_factory.mktemp("world"), tiny.sentences(96, seed=5), load_encoder("mini")
    files = {
        "train": _rows(folder / "train.jsonl", texts[:48], 100),
        "test": _rows(folder / "test.jsonl", texts[48:64], 200),
        "tune": _rows(folder / "tune.jsonl", texts[64:76], 300),
        "select": tiny.write_jsonl(
            folder / "select.jsonl",
            [{"id": f"s{i}", "source": text, "group": f"g{i // 4}"} for i, text in enumerate(texts[76:96])],
        ),
    }
    for name, file in files.items():
        rows = RowFile(file)
        vectors = mini.text_features([row.source[0] for row in rows]).numpy()
        table_of_vectors(vectors, rows, folder / f"{name}_T", encoder="ours")
        if name != "select":
            pictures, errors = mini.image_features([row.image for row in rows])
            assert not errors
            given: dict[str, Any] = {"encoder": "ours", "modality": "image"}
            table_of_vectors(np.asarray(pictures), rows, folder / f"{name}_V", **given)
    np.save(folder / "unpaired.npy", EmbeddingTable(folder / "tune_V")[:])
    training = {"max_steps": 2, "batch_size": 8, "save_strategy": "no", "learning_rate": 1e-2}
    values = {"data": {"train": "train.jsonl"}, "language_model": str(tiny_t5), "training": training}
    (folder / "r.yaml").write_text(json.dumps(values | {"encoder": "mini"}))
    data = {"train": "train.jsonl", "embeddings": "train_T"}
    (folder / "ours.yaml").write_text(json.dumps(values | {"encoder": "ours", "data": data}))
    return folder


def _asked(world: Path, recipe: str, out: Path) -> list[Any]:
    looks = [part for name in ("test", "tune", "select") for part in (f"--{name}", world / f"{name}.jsonl")]
    unpaired = ("--image", world / "unpaired.npy", "--select-image", world / "unpaired.npy")
    return ["sweep", world / recipe, *looks, *unpaired, *ARMS, "--out", out]


def _fed(world: Path, *names: str) -> list[Any]:
    return [part for name in names for part in ("--vectors", world / name)]


TABLES = ("test_V", "test_T", "tune_V", "select_T", "train_V")


def test_tables_alone_give_the_encoders_scores(cli, world, tmp_path):
    own = cli(*_asked(world, "r.yaml", tmp_path / "own"))
    assert own.code == 0, own.err
    given = (*_asked(world, "ours.yaml", tmp_path / "ours"), *_fed(world, *TABLES))
    planned = json.loads(cli(*given, "--dry-run").out)
    assert (planned["runs"], planned["finished"]) == (3, 0)
    assert not (tmp_path / "ours").exists()
    ran = cli(*given)
    assert ran.code == 0, ran.err
    found, expected = json.loads(ran.out), json.loads(own.out)
    assert list(found["arms_scored"]) == ["none", "mean_shift + gaussian cosine 0.67", "image"]
    assert found["arms_scored"] == expected["arms_scored"]
    assert found["selected"] == expected["selected"]
    assert found["arms"]["image"]["data"] == {"embeddings": str(world / "train_V")}
    places = {
        name: str(world / place) for name, place in zip(("image", "text", "tuning", "selection"), TABLES, strict=False)
    }
    assert found["vectors"] == places
    assert "vectors" not in expected
    _says_so(tmp_path / "ours", places)
    assert "given" not in (tmp_path / "own" / "sweep.md").read_text()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "ours").rglob("scores.json")}
    assert len(made) == 3 * 3 + 2
    assert json.loads(cli(*given).out)["arms_scored"] == found["arms_scored"]
    assert made == {path: path.stat().st_mtime_ns for path in made}


def _says_so(folder: Path, places: dict[str, str]) -> None:
    """The sweep's table, its page, and each line of its CSV."""
    sentence = f"nothing read by the encoder (images in: {places['image']}; text in: {places['text']}; "
    assert sentence in (folder / "sweep.md").read_text()
    assert sentence in html.unescape((folder / "index.html").read_text())
    lines = list(csv.DictReader((folder / "sweep.csv").open()))
    assert {(line["input"], line["vectors"]) for line in lines} == set(places.items())


def test_another_table_gives_other_scores(cli, world, tmp_path):
    """And the runs stay, and so do the scores on the first."""
    rows = RowFile(world / "test.jsonl")
    others = -np.asarray(EmbeddingTable(world / "test_V")[:])
    table_of_vectors(others, rows, tmp_path / "V", encoder="ours", modality="image")
    asked = ["sweep", world / "ours.yaml", "--test", world / "test.jsonl", *ARMS[2:], "--no-image"]
    asked += ["--out", tmp_path / "s", *_fed(world, "test_T")]
    first = cli(*asked, *_fed(world, "test_V"))
    assert first.code == 0, first.err
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.safetensors")}
    scores = {path: path.read_text() for path in (tmp_path / "s").rglob("scores.json")}
    other = cli(*asked, "--vectors", tmp_path / "V")
    assert other.code == 0, other.err
    assert json.loads(other.out)["vectors"]["image"] == str(tmp_path / "V")
    assert weights == {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.safetensors")}
    assert scores == {path: path.read_text() for path in scores}
    assert len([*(tmp_path / "s").rglob("scores.json")]) == len(scores) + 2
    assert json.loads(cli(*asked, *_fed(world, "test_V")).out)["arms_scored"] == json.loads(first.out)["arms_scored"]


NEEDED = "encoder 'ours' can't be loaded, and is needed for what no table has (--vectors): "


@pytest.mark.parametrize(
    ("tables", "options", "words"),
    [
        (["test_V"], [], [NEEDED, "(--vectors): the captions of {world}/test.jsonl"]),
        (["test_T"], [], [NEEDED, "(--vectors): the pictures of {world}/test.jsonl"]),
        ([], [], [NEEDED, "the pictures of {world}/test.jsonl; the captions of {world}/test.jsonl"]),
        (["test_V", "test_T"], ["--match-length", "{world}"], [NEEDED, "the photos of --match-length, {world}"]),
        (["test_V", "test_T"], ["retrieve.k=2"], [NEEDED, "the memory (retrieve)"]),
        (["test_V", "test_T"], ["data.val={world}/tune.jsonl"], [NEEDED, "the rows of data.val, {world}/tune.jsonl"]),
        (["test_V", "test_T"], ["--ceiling"], [NEEDED, "which arm 'image' learns from (--no-image leaves it out)"]),
        (
            ["test_V", "test_T", "tune_V"],
            [],
            ["tune_V: image vectors of nothing that is learnt from or looked at", "it was made for other rows than"],
        ),
        (["test_V", "test_T", "train_T"], [], ["train_T: text vectors of nothing that is learnt from or looked at"]),
        (
            ["test_V", "test_T", "tune_T"],
            ["--select", "{world}/tune.jsonl"],
            [
                "tune_T: it has no vector of ",
                "and it takes all of the captions of {world}/tune.jsonl, its references too",
            ],
        ),
        (["test_V", "test_T", "test_T"], [], ["test_T: it is given twice; expected one table of each"]),
        (["nowhere"], [], ["nowhere: no embedding table there"]),
        (["unpaired.npy"], [], ["unpaired.npy ROWS --encoder"]),
    ],
)
def test_what_tables_can_not_give_is_refused_first(told, world, tmp_path, tables, options, words):
    given = [option.format(world=world) for option in options if option != "--ceiling"]
    given += [] if "--ceiling" in options else ["--no-image"]
    asked = ("sweep", world / "ours.yaml", "--test", world / "test.jsonl", *ARMS[2:], "--out", tmp_path / "s")
    line = told(*asked, *given, *_fed(world, *tables))
    for word in words:
        assert word.format(world=world) in line
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("option", ["--vectors", "--adapter"])
def test_an_option_takes_one_value_each_time(refused, world, option):
    told = refused("sweep", world / "ours.yaml", "--test", world / "test.jsonl", option, "mean_shift", "centring")
    assert option in told
    assert "it takes one value, and is given again for each; 'centring' is no key=value of the recipe" in told


def test_rows_of_vectors_name_no_pictures(cli, told, world, tmp_path):
    lines = [json.loads(line) for line in (world / "test.jsonl").open()]
    bare = tiny.write_jsonl(
        tmp_path / "bare.jsonl", [{key: line[key] for key in line if key != "image"} for line in lines]
    )
    asked = ("sweep", world / "ours.yaml", "--test", bare, *ARMS[2:], "--no-image", "--out", tmp_path / "s")
    texts = _fed(world, "test_T")
    assert "row 'test0': rows to score on have an 'image'" in told(*asked, *texts)
    pictures = EmbeddingTable(world / "test_V")[:]
    table_of_vectors(pictures, RowFile(bare), tmp_path / "V", encoder="ours", modality="image")
    ran = cli(*asked, *texts, "--vectors", tmp_path / "V")
    assert ran.code == 0, ran.err
    assert "images in: " in (tmp_path / "s" / "sweep.md").read_text()
    same = EmbeddingTable.from_numpy(
        pictures, tmp_path / "W", encoder="ours", fingerprint=EmbeddingTable(tmp_path / "V").fingerprint,
        modality="image", ids=[line["id"] for line in lines],
    )  # fmt: skip
    shutil.copytree(world / "test_T", tmp_path / "T")
    copied = told(*asked, *texts, "--vectors", tmp_path / "V", "--vectors", tmp_path / "T")
    assert f"{tmp_path / 'T'}: {world / 'test_T'} is of the captions of {bare} too; expected one table of" in copied
    assert "are both of the pictures of" in told(
        *asked, *texts, "--vectors", same.path, "--vectors", _unsaid(same, tmp_path)
    )


def _unsaid(table: EmbeddingTable, folder: Path) -> Path:
    """The same again, which says of no rows either."""
    about: dict[str, Any] = {"encoder": "ours", "fingerprint": table.fingerprint, "modality": "image"}
    return EmbeddingTable.from_numpy(-table[:], folder / "X", ids=list(table.ids), **about).path


def test_an_encoder_and_a_table_of_texts_train_the_ceiling_too(cli, world, tmp_path):
    """`data.embeddings` is of texts: the arm on pictures embeds its own."""
    texts = [row.source[0] for row in RowFile(world / "train.jsonl")]
    mini = load_encoder("mini")
    given: dict[str, Any] = {"encoder": "mini", "fingerprint": mini.fingerprint}
    table_of_vectors(mini.text_features(texts).numpy(), RowFile(world / "train.jsonl"), tmp_path / "T", **given)
    asked = ("sweep", world / "r.yaml", f"data.embeddings={tmp_path / 'T'}", "--test", world / "test.jsonl")
    ran = cli(*asked, "--noise", "0.67", "--seeds", "1", "--out", tmp_path / "s", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["arms"]["image"]["data"] == {"embeddings": None}
