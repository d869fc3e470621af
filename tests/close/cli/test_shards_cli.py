"""A folder of shards wherever a data file does: the same results as from one file of the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file

from close.encoders import load_encoder
from close.runs.recipe import Recipe
from close.study.arms import Arm
from close.study.sweep import sweep
from close.training.train import train
from close.vectors.table import EmbeddingTable

COUNT = 48
COLOURED = "red", "blue"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Captions of twelve pictures, four each, in one file and in three shards; ids are those of the shards."""
    folder = tmp_path_factory.mktemp("data")
    rows = tiny.caption_rows(COUNT)
    for i, row in enumerate(rows):
        tiny.picture(folder / "pictures" / f"p{i // 4:02}.png", seed=i // 4)
        row |= {
            "image": f"../pictures/p{i // 4:02}.png",
            "label": COLOURED[i // 4 % 2],
            "answers": [tiny.COLOURS[i % 3]],
            "context": "what ?",
        }
        row |= {"references": [row["source"]]}
    parts = {"one": rows[:8], "three": rows[8:9], "two": rows[9:]}
    for name in ("shards", "file"):
        (folder / name).mkdir()
    for name, part in parts.items():
        tiny.write_jsonl(folder / "shards" / f"{name}.jsonl", part)
    whole = [row | {"id": f"{name}/{row['id']}"} for name, part in parts.items() for row in part]
    return {
        "shards": folder / "shards",
        "file": tiny.write_jsonl(folder / "file" / "shards.jsonl", whole),
        "pictures": folder / "pictures",
    }


def recipe_of(data: Path, models: dict[str, str], **changes: Any) -> Recipe:
    training = {"epochs": 1, "batch_size": 16, "save_strategy": "no"}
    return Recipe.model_validate(
        {"data": {"train": str(data), "val": str(data)}, **models, "training": training, **changes}
    )


@pytest.fixture(scope="module")
def models(tiny_encoder: Path, tiny_t5: Path) -> dict[str, str]:
    return {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}


@pytest.fixture(scope="module")
def runs(
    data: dict[str, Path], models: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Path]:
    """Runs trained on texts and on images, from the file and from the shards."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        (side, kind): train(recipe_of(data[kind], models, train_on=side), folder / f"{side}-{kind}")
        for side in ("text", "image")
        for kind in ("file", "shards")
    }


@pytest.fixture(scope="module")
def tables(data: dict[str, Path], tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tables of the shards' texts and images."""
    from close.data.shards import open_rows
    from close.vectors.build import embed_images, embed_texts, images_of

    folder, rows, encoder = (
        tmp_path_factory.mktemp("tables"),
        open_rows(data["shards"]),
        load_encoder(str(tiny_encoder)),
    )
    embed_texts(rows, encoder, folder / "text")
    embed_images(images_of(rows), encoder, folder / "image")
    return {side: folder / side for side in ("text", "image")}


@pytest.fixture
def twice(cli: Callable[..., Any], data: dict[str, Path]) -> Callable[..., list[Any]]:
    """What a verb prints as JSON for the file, and for the shards; `{}` stands for the data."""

    def run(*arguments: Any) -> list[Any]:
        found = []
        for kind in ("file", "shards"):
            ran = cli(*(str(data[kind]) if given == "{}" else given for given in arguments), "--json")
            assert ran.code == 0, ran.err
            found.append(json.loads(ran.out))
        return found

    return run


@pytest.mark.parametrize("side", ["text", "image"])
def test_train(runs, side):
    one, two = (load_file(runs[side, kind] / "model.safetensors") for kind in ("file", "shards"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_evaluate_score_and_compare(runs, data, twice, cli):
    python = ("--tokenizer", "python")
    one, two = twice("evaluate", runs["text", "shards"], "{}", *python)
    assert one["scores"] == two["scores"]
    assert cli("evaluate", runs["image", "shards"], data["shards"], *python).code == 0
    assert Path(one["folder"]).name == "shards-image"
    places = [
        Path(two["folder"]),
        runs["image", "shards"] / "evaluations" / "shards-image",
    ]  # of the folder, not the file
    files = [place / "predictions.jsonl" for place in places]
    assert len(files[0].read_text().splitlines()) == 12  # pictures, of which several rows are
    one, two = twice("score", files[0], "{}", "--task", "caption", *python, "--samples", "0")
    assert one == two
    few = ("--samples", "100", *python)
    one, two = twice("compare", *files, "--references", "{}", "--task", "caption", *few)
    shown = [found.pop("examples")["better"] for found in (one, two)]  # whose pictures' paths are spelt otherwise
    assert shown[0] == shown[1]
    assert [part for part in one.items() if part not in two.items()] == [("data", str(data["file"]))]
    assert cli("compare", *places, *few).code == 0


def test_answers_of_a_closed_set(data, models, twice, tmp_path):
    run = train(recipe_of(data["shards"], models, task="vqa"), tmp_path / "run")
    for more in (("--answers", "{}"), ()):  # given, or those that the run was trained on
        one, two = twice("evaluate", run, "{}", "--decode", "score", *more)
        assert one["decoding"]["labels"] == two["decoding"]["labels"] == 3
        assert one["scores"] == two["scores"]


def test_a_sweep_with_its_ceiling_test_and_selection(data, models, tmp_path):
    arms = [Arm("none", {}), Arm("image", {"train_on": "image"})]
    found = []
    for kind in ("file", "shards"):
        base, out = recipe_of(data[kind], models), tmp_path / kind
        tested = sweep(base, arms, [0], data[kind], out / "tested")["arms_scored"]
        chosen = sweep(base, arms[:1], [0], None, out / "chosen", select=data[kind])["arms_scored"]
        found.append((tested, chosen["none"]["selection"]))
    assert found[0] == found[1]
    assert set(found[0][0]["none"]) >= {"image", "text"}


def test_embed(cli, data, tmp_path, tiny_encoder):
    for verb in ("text", "images"):
        for kind in ("file", "shards"):
            ran = cli("embed", verb, data[kind], "--out", tmp_path / f"{verb}-{kind}", "--encoder", tiny_encoder)
            assert ran.code == 0, ran.err
        one, two = (EmbeddingTable(tmp_path / f"{verb}-{kind}") for kind in ("file", "shards"))
        assert list(one.ids) == list(two.ids)
        assert np.array_equal(one[:], two[:])


def test_gap_pairs_and_groups(twice, tables, tmp_path, data, cli):
    sides = ("--text", tables["text"], "--image", tables["image"])
    one, two = twice("gap", *sides, "--pairs", "{}", "--bootstrap", "0")
    assert one == two
    one, two = twice("recommend", *sides, "--pairs", "{}", "--captions", "multiple")
    assert one == two
    one, two = twice("recommend", "--text", tables["text"], "--groups", "{}")
    assert one == two
    for kind in ("file", "shards"):
        assert cli("adapter", "fit", "shared", *sides[:2], "--groups", data[kind], "--out", tmp_path / kind).code == 0
    one, two = (load_file(tmp_path / kind / "adapter.safetensors") for kind in ("file", "shards"))
    assert torch.equal(one["matrix"], two["matrix"])


def test_recommend_from_captions(twice, tiny_encoder):
    one, two = twice("recommend", "--text", "{}", "--image", "{}", "--encoder", tiny_encoder)
    assert one == two


def resolved(found):
    """The same, its files by where they are: each command names them from the folder of its rows."""
    if isinstance(found, list):
        return [resolved(one) for one in found]
    if isinstance(found, dict):
        return {key: Path(one).resolve(strict=True) if key == "file" else resolved(one) for key, one in found.items()}
    return found


def test_classify_and_retrieve(twice, data, tiny_encoder):
    encoder = ("--encoder", tiny_encoder)
    one, two = twice("classify", "{}", *encoder)
    assert resolved(one) == resolved(two)
    assert one["classes"] == ["blue", "red"]
    assert {item["truth"] for item in one["items"]} == set(COLOURED)
    for asked in (("--query", "a red dog"), ("--image", data["pictures"] / "p03.png"), ()):
        one, two = twice("retrieve", "{}", *asked, *encoder)
        assert resolved(one) == resolved(two)
