"""Tables of images that were made for other rows: found by the rows' ids, they would be of other pictures."""

import shutil

import numpy as np
import pytest
import tiny

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.runs.recipe import Recipe
from close.runs.row_vectors import tell_other_rows
from close.training.plan import plan
from close.vectors.build import embed_images, find_images
from close.vectors.given import table_of_vectors


def file_of(folder, names):
    lines = [{"image": tiny.picture(folder / f"{name}.png", n).name, "target": "a cat"} for n, name in enumerate(names)]
    return RowFile(tiny.write_jsonl(folder / f"{names}.jsonl", lines))


def told(caplog, table, rows):
    caplog.clear()
    tell_other_rows(table, rows)
    return "was made for other rows" in caplog.text


@pytest.mark.parametrize("kind", ["given", "embedded"])
def test_rows_that_are_numbered_are_told_from_others(kind, tiny_encoder, tmp_path, caplog):
    one, other = file_of(tmp_path, "ab"), file_of(tmp_path, "cd")
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    if kind == "given":
        table = table_of_vectors(np.eye(2, 4), one, tmp_path / "V", encoder="ours", modality="image")
    else:
        table = embed_images(find_images(one.path, encoder.item_suffixes), encoder, tmp_path / "V")
    assert list(table.ids) == [row.id for row in other]
    assert told(caplog, table, other)
    assert not told(caplog, table, one)


def test_rows_with_ids_are_found_wherever_their_pictures_lie_now(tiny_encoder, tmp_path, caplog):
    lines = [{"id": f"row-{n}", "image": f"{n}.png", "references": ["a"]} for n in range(2)]
    (tmp_path / "here").mkdir()
    for n in range(2):
        tiny.picture(tmp_path / "here" / f"{n}.png", n)
    rows = tiny.write_jsonl(tmp_path / "here" / "rows.jsonl", lines)
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    table = embed_images(find_images(rows, encoder.item_suffixes), encoder, tmp_path / "V")
    moved = shutil.move(tmp_path / "here", tmp_path / "there")
    assert not told(caplog, table, RowFile(moved / "rows.jsonl"))


def test_numbers_that_are_shifted_are_told_and_pictures_that_moved_may_be_others(tiny_encoder, tmp_path, caplog):
    (tmp_path / "here").mkdir()
    rows = file_of(tmp_path / "here", "abcd")
    encoder = load_encoder(str(tiny_encoder), device="cpu")
    table = embed_images(find_images(rows.path, encoder.item_suffixes), encoder, tmp_path / "V")
    lines = rows.path.read_text().splitlines(keepends=True)
    for name, some in {"last": lines[2:], "turned": lines[::-1]}.items():
        (tmp_path / "here" / name).with_suffix(".jsonl").write_text("".join(some))
        assert told(caplog, table, RowFile(tmp_path / "here" / f"{name}.jsonl"))
        assert "copied or changed" not in caplog.text
    (tmp_path / "here" / "first.jsonl").write_text("".join(lines[:2]))
    assert not told(caplog, table, RowFile(tmp_path / "here" / "first.jsonl"))
    copied = shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert told(caplog, table, RowFile(copied / "abcd.jsonl"))
    assert "or their pictures have been copied or changed since: " in caplog.text
    for picture in copied.glob("*.png"):
        picture.unlink()
    assert not told(caplog, table, RowFile(copied / "abcd.jsonl"))


def test_training_tells_vectors_of_other_rows(tiny_t5, tmp_path, caplog):
    one, other = file_of(tmp_path, "ab"), file_of(tmp_path, "cd")
    table = table_of_vectors(np.eye(2, 4), one, tmp_path / "V", encoder="ours", modality="image")
    values = {"encoder": "ours", "language_model": str(tiny_t5), "train_on": "image", "training": {"max_steps": 1}}
    for rows in (other, one):
        caplog.clear()
        data = {"train": str(rows.path), "embeddings": str(table.path)}
        plan(Recipe.model_validate(values | {"data": data}), tmp_path / "run")
        assert (f"{table.path} was made for other rows" in caplog.text) == (rows is other)
