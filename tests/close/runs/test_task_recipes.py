"""The recipes of the paper's Table 1: each loads, each of its rows loads, and the numbers are the paper's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from close.adapters.gaussian import std_to_cosine
from close.data.readers import READERS
from close.runs.recipe import Recipe, load_recipe

FOLDER = Path(__file__).parents[3] / "experiments" / "tasks"
TABLE1 = {
    "caption_single": (16.4, 80.5, 95.4, 113.2),
    "caption_multiple": (68.7, 95.3, 98.4, 113.2),
    "entailment": (68.2, 75.9, 75.9, 77.7),
    "vqa": (60.2, 59.6, 61.9, 65.4),
    "vqa_e": (59.8, 62.9, 64.3, 67.9),
    "news": (32.1, 80.8, 80.8, 105.7),
}
TUNED = {"caption_single": 0.12, "caption_multiple": 0.04, "entailment": 0.08, "vqa": 0.04, "vqa_e": 0.04, "news": 0.08}
ROW = re.compile(r"^#   (no noise|w = \.08|tuned|images) +([\d.]+) +(.+)$", re.M)


def rows_of(name: str) -> dict[str, tuple[float, Recipe]]:
    """Row to number and recipe, as a reader of the file would make them."""
    path, found = FOLDER / f"{name}.yaml", {}
    for row, number, said in ROW.findall(path.read_text(encoding="utf-8")):
        found[row] = (float(number), load_recipe(path, [] if said == "(nothing)" else shlex.split(said)))
    return found


@pytest.mark.parametrize("name", TABLE1)
def test_rows_of_table_1(name: str) -> None:
    rows = rows_of(name)
    assert list(rows) == ["no noise", "w = .08", "tuned", "images"]
    assert tuple(number for number, _ in rows.values()) == TABLE1[name]
    none, default, tuned, image = (recipe for _, recipe in rows.values())
    assert (none.adapter, none.train_on) == ("none", "text")
    assert default.adapter == {"gaussian": {"std": 0.08}}
    assert tuned.adapter == [{"gaussian": {"std": TUNED[name]}}]
    assert (image.adapter, image.train_on, image.captions) == ("none", "image", "single")
    for recipe in (none, default, tuned, image):
        assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.learning_rate) == (8, 128, 3e-4)
        assert recipe.captions == ("multiple" if name == "caption_multiple" and recipe is not image else "single")
        assert recipe.language_model == "google-t5/t5-base"
        assert recipe.encoder.startswith("open_clip:ViT-L-14/")
        assert recipe.task == name.partition("_s")[0].partition("_m")[0]
    cosine = re.search(r"cosine (\.\d\d)", (FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert cosine is not None
    assert float(cosine[1]) == pytest.approx(std_to_cosine(TUNED[name], 768), abs=0.005)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_is_a_recipe_whose_data_it_says_how_to_make(path: Path) -> None:
    recipe, text = load_recipe(path), path.read_text(encoding="utf-8")
    made = re.findall(r"experiments/tasks/data/([\w-]+\.jsonl)", text)
    assert recipe.data.train is not None
    assert recipe.data.train.name in made
    for format in re.findall(r"close convert (\S+)", text):
        assert format in READERS
    assert yaml.safe_load(text).keys() <= Recipe.model_fields.keys()


def test_the_styles_exist() -> None:
    text = (FOLDER / "stylistic.yaml").read_text(encoding="utf-8")
    styles = {path.stem for path in (FOLDER.parents[1] / "data_gen" / "prompts" / "styles").glob("*.toml")}
    assert {Path(name).stem for name in re.findall(r"data/([\w-]+)\.jsonl", text)} - {"coco_test"} <= styles
