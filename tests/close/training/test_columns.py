"""Columns that a recipe names, in whatever of it the training files come again."""

from pathlib import Path

import pytest
import tiny

import close
from close.data.shards import open_rows
from close.encoders import load_encoder
from close.runs.recipe import Recipe
from close.training.train import train
from close.vectors.build import embed_texts

COLUMNS = {"caption": "beschreibung", "group": "bild"}


@pytest.fixture(params=["file", "folder"])
def data(request, tmp_path) -> Path:
    """Captions under names that nobody knows, in one table or in two."""
    rows = tiny.caption_rows(48)
    parts = {"one.csv": rows} if request.param == "file" else {"one.csv": rows[:20], "two.csv": rows[20:]}
    (tmp_path / "data").mkdir()
    for name, part in parts.items():
        lines = "".join(f"{row['source']},{row['group']}\n" for row in part)
        (tmp_path / "data" / name).write_text(f"beschreibung,bild\n{lines}")
    return tmp_path / "data" / ("one.csv" if request.param == "file" else "")


@pytest.fixture
def trained(data, tiny_encoder, tiny_t5, tmp_path):
    def run(**changes):
        values = {
            "data": {"train": str(data), "columns": COLUMNS},
            "encoder": str(tiny_encoder),
            "language_model": str(tiny_t5),
            "training": {"batch_size": 16, "max_steps": 2, "save_strategy": "no"},
        }
        return train(Recipe.model_validate(values | changes), tmp_path / "run")

    return run


@pytest.mark.parametrize("named", [False, True])
def test_a_memory_of_the_training_rows(trained, data, pictures, named):
    run = trained(retrieve={"k": 2, "into": "captions", **({"memory": str(data)} if named else {})})
    assert close.load(run)(str(pictures / "p00.png")).error is None


def test_the_rows_that_a_table_was_made_of(trained, data, pictures, tiny_encoder, tmp_path):
    table = embed_texts(open_rows(data, COLUMNS), load_encoder(str(tiny_encoder)), tmp_path / "table").path
    run = trained(retrieve={"k": 2, "memory": str(table), "texts": str(data), "into": "captions"})
    assert close.load(run)(str(pictures / "p00.png")).error is None


def test_the_groups_that_an_adapter_is_fitted_on(trained, data, tiny_encoder, tmp_path):
    table = embed_texts(open_rows(data, COLUMNS), load_encoder(str(tiny_encoder)), tmp_path / "table").path
    trained(adapter={"shared": {"fit": {"text": str(table), "groups": str(data)}}})
