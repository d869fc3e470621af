"""Tests that share pictures with what was learnt."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

from close.adapters import fit_adapter
from close.data.rows import RowFile
from close.data.shards import open_rows
from close.encoders import load_encoder
from close.runs.apart import learnt_from, met_pictures, pictures_of, shared_pictures
from close.runs.evaluate import evaluate
from close.runs.recipe import Recipe
from close.training.train import train
from close.vectors.build import embed_images, find_images
from close.vectors.cache import cached_table


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
    (linked := tmp_path / "linked").symlink_to(pictures)
    for folder in (pictures, linked):
        assert shared_pictures(shown, folder) == 4
    assert shared_pictures(shown, pictures / "p00.png") == 1
    np.save(tmp_path / "vectors.npy", table[:])
    assert shared_pictures(shown, tmp_path / "vectors.npy") == 0
    assert shared_pictures(shown, tmp_path / "nothing") == 0
    lines = "".join(f"{pictures.name}/{image.name},a dog\n" for image in pictures.iterdir())
    table = pictures.with_name("rows.csv")
    table.write_text(f"photo,said\n{lines}", encoding="utf-8")
    assert shared_pictures(shown, table, {"image": "photo", "caption": "said"}) == 4


def test_notes_among_photos_and_boxes_of_pictures(pictures, tiny_encoder, tmp_path):
    copied = shutil.copytree(pictures, tmp_path / "photos")
    (copied / "notes.txt").write_text("two of a beach\n", encoding="utf-8")
    boxed = [f"{copied / 'p00.png'}#xywh=0,0,8,8", str(copied / "p01.png")]
    test = tiny.write_jsonl(
        tmp_path / "test.jsonl",
        [row | {"image": image} for row, image in zip(tiny.caption_rows(2), boxed, strict=True)],
    )
    shown = pictures_of(open_rows(test))
    assert shared_pictures(shown, copied) == 2
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    table = embed_images(find_images(test, encoder.item_suffixes)[:1], encoder, tmp_path / "boxes")
    assert shared_pictures(shown, table.path) == 1


def test_everything_that_a_recipe_learns_from_is_looked_at(rows, pictures, tiny_encoder, tiny_t5, tmp_path):
    train_rows, _ = rows
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    image = embed_images(find_images(pictures, encoder.item_suffixes), encoder, tmp_path / "image").path
    text = cached_table(RowFile(train_rows), encoder, "text").path
    fit_adapter("mean_shift", tmp_path / "adapter", text=text, image=image)
    models = {"encoder": str(tiny_encoder), "language_model": str(tiny_t5)}
    training = {"max_steps": 1, "batch_size": 4, "save_strategy": "no"}
    first = train(
        Recipe.model_validate({"data": {"train": str(train_rows)}, **models, "training": training}), tmp_path / "first"
    )
    other = tiny.write_jsonl(tmp_path / "other.jsonl", tiny.caption_rows(4, seed=3))
    values = {
        "data": {"train": str(other), "val": str(other)},
        **models,
        "adapter": {"load": str(tmp_path / "adapter")},
        "init_from": str(first),
    }
    places = learnt_from(Recipe.model_validate(values), memory=tmp_path / "memory.jsonl")
    assert {Path(image), Path(text), other, train_rows, tmp_path / "memory.jsonl"} <= {*places}


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
    assert scores["met"] == [
        {"place": f"{train_rows.parent.name}/train.jsonl", "pictures": 2},
        {"place": f"{tmp_path.name}/table", "pictures": 4},
    ]
    assert "2 of the 4 pictures of" in caplog.text
    assert json.loads((run / "evaluations/test-image/scores.json").read_text())["met"] == scores["met"]
    caplog.clear()
    apart = [json.loads(line) for line in test.read_text().splitlines()][2:]
    half = evaluate(run, tiny.write_jsonl(tmp_path / "half.jsonl", apart), tokenizer="python")
    assert [one["pictures"] for one in half["met"]] == [2]  # of the adapter's table
    assert evaluate(run, test, tokenizer="python", limit=1)["met"][0]["pictures"] == 1
    plain = train(recipe.model_copy(update={"adapter": "none"}), tmp_path / "plain")
    caplog.clear()
    assert "met" not in evaluate(plain, tmp_path / "half.jsonl", tokenizer="python")
    assert "pictures of" not in caplog.text


def test_what_is_gone_is_told_and_hides_nothing_else(rows, tmp_path, caplog):
    train_rows, test = rows
    fit = [{"mean_shift": {"fit": {"image": str(tmp_path / "a-table")}}}]
    for adapter in (fit, [{"load": str(tmp_path / "an-adapter")}], "of_a_plugin"):
        values = {"data": {"train": str(train_rows)}, "adapter": adapter, "init_from": str(tmp_path / "a-run")}
        with caplog.at_level(logging.WARNING):
            found = met_pictures(values, open_rows(test), test)
        assert [one["pictures"] for one in found["met"]] == [2]
    assert "a-run, a-table: what the run learnt from" in caplog.text
    assert "a-run, an-adapter: what" in caplog.text
    (base := tmp_path / "base").mkdir()
    (base / "recipe.yaml").write_text(f"data: {{train: {train_rows}}}\nadapter: {json.dumps(fit)}\n", encoding="utf-8")
    values = {"data": {"train": str(test)}, "init_from": str(base)}
    assert [one["pictures"] for one in met_pictures(values, open_rows(test), test)["met"]] == [2, 4]
