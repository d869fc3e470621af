"""Tests that share pictures with what was learnt."""

import json
import logging

import numpy as np
import pytest
import tiny

from close.data.shards import open_rows
from close.encoders import load_encoder
from close.runs.apart import pictures_of, shared_pictures
from close.runs.evaluate import evaluate
from close.runs.recipe import Recipe
from close.training.train import train
from close.vectors.build import embed_images, find_images


@pytest.fixture(scope="module")
def rows(tmp_path_factory, pictures):
    """Two files of rows; the second has two of its four pictures from the first, one of them by another way to it."""
    folder = tmp_path_factory.mktemp("rows")
    (folder / "linked").mkdir()
    shown = [*(pictures / f"p{i:02}.png" for i in range(6)), folder / "linked" / ".." / "gone.png"]
    some = [row | {"image": str(image)} for row, image in zip(tiny.caption_rows(7), shown, strict=False)]
    other = [pictures / "p00.png", pictures / ".." / pictures.name / "p01.png", *sorted(pictures.iterdir())[-2:]]
    test = [
        row | {"image": str(image), "references": [row["source"]]}
        for row, image in zip(tiny.caption_rows(4, seed=9), other, strict=True)
    ]
    return tiny.write_jsonl(folder / "train.jsonl", some), tiny.write_jsonl(folder / "test.jsonl", test)


def test_pictures_are_found_in_rows_tables_folders_and_files(rows, pictures, tiny_encoder, tmp_path):
    train_rows, test = rows
    shown = pictures_of(open_rows(test))
    assert len(shown) == 4
    assert shared_pictures(shown, train_rows) == 2
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    table = embed_images(find_images(train_rows, encoder.item_suffixes), encoder, tmp_path / "table")
    assert shared_pictures(shown, table.path) == 2
    assert shared_pictures(shown, pictures) == 4
    assert shared_pictures(shown, pictures / "p00.png") == 1
    np.save(tmp_path / "vectors.npy", table[:])
    assert shared_pictures(shown, tmp_path / "vectors.npy") == 0
    assert shared_pictures(shown, tmp_path / "nothing") == 0


def test_an_evaluation_tells_pictures_that_the_run_has_learnt_from(
    rows, pictures, tiny_encoder, tiny_t5, tmp_path, caplog
):
    train_rows, test = rows
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    table = embed_images(find_images(pictures, encoder.item_suffixes), encoder, tmp_path / "table").path
    models = {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}
    training = {"max_steps": 1, "batch_size": 4, "save_strategy": "no"}
    adapter = [{"mean_shift": {"fit": {"image": str(table)}}}]
    recipe = Recipe.model_validate(
        {"data": {"train": str(train_rows)}, **models, "training": training, "adapter": adapter}
    )
    run = train(recipe, tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        scores = evaluate(run, test, tokenizer="python")
    assert scores["met"] == {f"{train_rows.parent.name}/train.jsonl": 2, f"{tmp_path.name}/table": 4}
    assert "2 of its 4 pictures are in" in caplog.text
    assert json.loads((run / "evaluations/test-image/scores.json").read_text())["met"] == scores["met"]
    caplog.clear()
    apart = [json.loads(line) for line in test.read_text().splitlines()][2:]
    assert "met" in evaluate(run, tiny.write_jsonl(tmp_path / "half.jsonl", apart), tokenizer="python")  # the adapter's
    plain = train(recipe.model_copy(update={"adapter": "none"}), tmp_path / "plain")
    caplog.clear()
    assert "met" not in evaluate(plain, tmp_path / "half.jsonl", tokenizer="python")
    assert "pictures are in" not in caplog.text
