"""The field's methods as recipes: each loads, and has the strength of noise that its paper names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from close.adapters.gaussian import std_to_cosine
from close.runs.recipe import load_recipe

FOLDER = Path(__file__).parents[3] / "experiments" / "methods" / "recipes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
COSINES = {"close": (0.12**2, 768, 0.29), "capdec": (0.016, 640, 0.30), "viecap": (0.016, 512, 0.33)}
"""Variance, dimension, and the cosine that is left (1/√(1 + variance · dimension))."""


def test_they_are_the_ones_that_the_table_has() -> None:
    assert {"close", "capdec", "c3", "decap", "viecap", "smallcap", "knight", "ifcap", "shared"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_a_recipe(name: str, tmp_path: Path) -> None:
    own = shutil.copy(FOLDER / f"{name}.yaml", tmp_path)
    for table in "VM":  # of images and of texts, where an adapter is fitted on them
        with (tmp_path / table).open("wb") as file:
            np.save(file, np.eye(4, dtype=np.float32))
    recipe = load_recipe(own, ["data.train=captions.jsonl"])
    assert recipe.task == "caption"
    assert recipe.train_on == "text"


@pytest.mark.parametrize("name", COSINES)
def test_the_noise_is_the_papers(name: str) -> None:
    variance, dim, cosine = COSINES[name]
    (stage,) = load_recipe(FOLDER / f"{name}.yaml", ["data.train=captions.jsonl"]).adapter
    own = stage["gaussian"]
    assert own.get("var", own.get("std", 0) ** 2) == pytest.approx(variance)
    assert std_to_cosine(variance**0.5, dim) == pytest.approx(cosine, abs=5e-3)
