"""Recipes: defaults, places, overrides, and every wrong key told with the nearest right one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from close.errors import CloseError, MissingError, OutputExistsError, RecipeError
from close.runs.pipeline import load as load_run
from close.runs.recipe import Recipe, load_recipe
from close.runs.recipe_file import portable
from close.runs.sections import _theirs
from close.training.train import train

DATA = "data: {train: c.txt}\n"


@pytest.fixture
def load(tmp_path):
    def load(text: str, *overrides: str) -> Recipe:
        (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
        return load_recipe(tmp_path / "r.yaml", list(overrides))

    return load


def test_the_defaults_are_the_papers(load):
    recipe = load(DATA)
    assert recipe.dump() == {
        "task": "caption",
        "data": {
            "train": str(recipe.data.train),
            "val": None,
            "val_images": None,
            "embeddings": None,
            "columns": None,
        },
        "encoder": "mini",
        "language_model": "mini",
        "prefix": {"kind": "linear", "length": 4},
        "adapter": [{"gaussian": {"cosine": 0.41}}],
        "train_on": "text",
        "captions": "single",
        "several": "mean",
        "tune": "full",
        "lora": None,
        "retrieve": None,
        "init_from": None,
        "lowercase": True,
        "max_new_tokens": None,
        "training": {
            "epochs": 8,
            "batch_size": 128,
            "learning_rate": 3e-4,
            "prefix_learning_rate": None,
            "precision": "auto",
            "report_to": "none",
            "metric_for_best": None,
            "metric_rows": 500,
            "metric_beams": 1,
        },
        "seed": 0,
        "plugins": [],
    }
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(recipe.dump()))) == recipe


def test_places_are_relative_to_the_recipe(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    (folder / "encoder").mkdir(parents=True)
    (folder / "mini").mkdir()
    (folder / "weights.pt").touch()
    (folder / "r.yaml").write_text(
        "data: {train: c.txt, val: /v.txt}\nencoder: encoder\nlanguage_model: mini\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("recipes/r.yaml")
    assert (recipe.data.train, recipe.data.val) == (Path("recipes/c.txt"), Path("/v.txt"))
    assert (recipe.encoder, recipe.language_model) == ("recipes/encoder", "mini")
    given = load_recipe("recipes/r.yaml", ["data.train=mine.txt", "encoder=open_clip:ViT-B-32/openai"])
    assert (given.data.train, given.encoder) == (Path("mine.txt"), "open_clip:ViT-B-32/openai")
    (folder / "r.yaml").write_text(DATA + "encoder: open_clip:ViT-B-32@weights.pt\n")
    assert load_recipe("recipes/r.yaml").encoder == "open_clip:ViT-B-32@recipes/weights.pt"


def test_overrides(load):
    recipe = load(
        DATA + "training: {epochs: 2}\n",
        "training.learning_rate=3e-4",
        "training.gradient_accumulation_steps=4",
        "adapter={gaussian: {std: 0.1}}",
        "lora.r=8",
        "seed=5",
    )
    assert recipe.training.learning_rate == 3e-4
    assert recipe.training.epochs == 2
    assert recipe.training.model_extra == {"gradient_accumulation_steps": 4}
    assert recipe.adapter == {"gaussian": {"std": 0.1}}
    assert recipe.lora is not None
    assert (recipe.lora.r, recipe.lora.alpha, recipe.seed) == (8, 32, 5)
    assert load(DATA + "lora: {}\n", "lora=null").lora is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DATA + "adaptor: none", ["unknown key 'adaptor': did you mean 'adapter'?"]),
        ("data: {tran: c.txt}", ["unknown key 'data.tran': did you mean 'data.train'?"]),
        (DATA + "lora: {rank: 2}", ["unknown key 'lora.rank'"]),
        (DATA + "learning_rate: 3", ["unknown key 'learning_rate': did you mean 'training.learning_rate'?"]),
        (DATA + "warmup_steps: 3", ["unknown key 'warmup_steps': did you mean 'training.warmup_steps'?"]),
        ("data: {train: c.txt, epochs: 3}", ["unknown key 'data.epochs': did you mean 'training.epochs'?"]),
        (DATA + "generation_max_length: 3", ["did you mean 'max_new_tokens'?"]),
        (DATA + "training: {generation_max_length: 3}", ["key 'generation_max_length' is 'max_new_tokens' here"]),
        (DATA + "output_dir: x", ["unknown key 'output_dir': it is --out of the command"]),
        (DATA + "do_train: true", ["unknown key 'do_train': it does nothing here: close train trains"]),
        (DATA + "retrieve: {r: 3}", ["unknown key 'retrieve.r': did you mean 'retrieve."]),
        (DATA + "training: {epoch: 3}", ["unknown key 'epoch': did you mean 'epochs'?"]),
        (DATA + "training: {num_train_epochs: 3}", ["key 'num_train_epochs' is 'training.epochs' here"]),
        (DATA + "training: {output_dir: x}", ["key 'output_dir' is '--out' here"]),
        (DATA + "training: {warmup: 3, epohcs: 2}", ["'warmup'", "'epohcs': did you mean 'epochs'?"]),
        (DATA + "training: {logging_steps: often}", ["training: logging_steps: expected float, not 'often'"]),
        (DATA + "training: {gradient_accumulation_steps: 2.5}", ["gradient_accumulation_steps: expected int, not 2.5"]),
        (DATA + "training: {max_steps: -5}", ["training: max_steps: expected 1 at least, not -5"]),
        (DATA + "training: {max_steps: 0}", ["max_steps: expected 1 at least, not 0"]),
        (DATA + "training: {weight_decay: -1e-2}", ["weight_decay: expected 0 at least, not -0.01"]),
        (DATA + "training: {bf16_full_eval: maybe}", ["bf16_full_eval: expected bool, not 'maybe'"]),
        (
            DATA + "training: {warmup_steps: -1, weight_decay: -0.1}",
            ["warmup_steps: expected 0", "weight_decay: expected 0"],
        ),
        (DATA + "training: {seed: 3}", ["key 'seed' stands in the recipe itself, not in training"]),
        (DATA + "training: {3: 4}", ["unknown key '3'"]),
        (DATA + "training: 3", ["training: ", "not 3"]),
        (DATA + "training: [a]", ["training: ", "not ['a']"]),
        (DATA + "training: {epochs: x}", ["training.epochs", "'x'"]),
        (DATA + "training: {epochs: 0}", ["training.epochs", "greater than 0"]),
        (DATA + "training: {precision: fp8}", ["training.precision", "'fp8'", "'bf16'"]),
        (DATA + "task: captoin", ["unknown task 'captoin': did you mean 'caption'?"]),
        (DATA + "task: 3", ["task: ", "not 3"]),
        ("task: []", ["task: "]),
        ("task: [{task: captoin, train: c.txt}]", ["unknown task 'captoin': did you mean 'caption'?"]),
        ("task: [{task: caption, trian: c.txt}]", ["'task.0.train' is missing", "did you mean 'task.0.train'?"]),
        (DATA + "adapter: gausian", ["unknown adapter 'gausian': did you mean 'gaussian'?"]),
        (DATA + "adapter: {gaussian: {cosin: 0.4}}", ["'cosin': did you mean 'cosine'?"]),
        (DATA + "adapter: {gaussian: {std: 1}, none: {}}", ["adapter"]),
        (DATA + "adapter: 3", ["adapter", "not 3"]),
        (DATA + "train_on: images", ["train_on", "'text' or 'image'", "'images'"]),
        (DATA + "captions: many", ["captions", "'single' or 'multiple'", "'many'"]),
        (DATA + "seed: -1", ["seed", "-1"]),
        (DATA + "seed: true", ["seed", "True"]),
        (DATA + "seed: 1.5", ["seed", "1.5"]),
        (DATA + "prefix_length: 0", ["length is a whole number ≥ 1", "0"]),
        (DATA + "lora: {r: 0}", ["lora.r", "0"]),
        (DATA + "encoder:", ["encoder", "None"]),
        (DATA + "3: 4", ["3"]),
        ("seed: 3", ["'data.train' is missing"]),
        ("data:", ["data: "]),
        ("data: {train: 3}", ["data.train", "3"]),
        ("", ["a recipe is a mapping"]),
        ("- a", ["a recipe is a mapping of keys to values, not list"]),
        ("a: [", ["not YAML"]),
        ("a: \x01", ["not YAML"]),
    ],
)
def test_what_is_wrong_is_told(load, tmp_path, text, words):
    with pytest.raises(CloseError) as told:
        load(text)
    message = str(told.value)
    assert message.startswith(f"{tmp_path / 'r.yaml'}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs", "an override is key=value"),
        ("=3", "an override is key=value"),
        ("seed=[1", "'[1' is not a YAML value"),
        ("encoder.name=x", "'encoder' is no section"),
        ("sed=3", "did you mean 'seed'?"),
    ],
)
def test_wrong_overrides(load, override, words):
    with pytest.raises(RecipeError) as told:
        load(DATA + "encoder: mini\n", override)
    assert words in str(told.value)


def test_the_word_no_is_a_strategy(load):
    """YAML reads it as false, and transformers knows it as a word."""
    text = "data: {train: c.txt}\ntraining: {save_strategy: no}\n"
    training = load(text, "training.eval_strategy=no").dump()["training"]
    assert (training["save_strategy"], training["eval_strategy"]) == ("no", "no")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("weight_decay: 1e-2", 0.01),
        ('gradient_checkpointing: "false"', False),
        ("save_only_model: f", False),
        ('max_steps: "12"', 12),
        ("lr_scheduler_type: cosine", "cosine"),
        ("warmup_steps: 100", 100),
        ("logging_steps: 5.0", 5.0),
        ("eval_strategy: 'no'", "no"),
    ],
)
def test_settings_are_what_they_mean_and_numbers_stay_as_they_are(load, given, read):
    """Runs of a sweep are named by what their recipes say: 100 is not 100.0 there."""
    (found,) = (load(DATA + f"training: {{{given}}}").training.model_extra or {}).values()
    assert (found, type(found)) == (read, type(read))


def test_files_that_are_no_recipe(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        load_recipe(tmp_path / "gone.yaml")
    assert str(load_recipe(None, "data.train=a.txt").data.train) == "a.txt"  # one alone
    with pytest.raises(RecipeError, match="a recipe is a file, or None and"):
        load_recipe({"data": {"train": "a.txt"}})
    with pytest.raises(MissingError):
        load_recipe(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(tmp_path / "b.yaml")


def test_a_recipe_of_before_the_prefix_had_kinds(load):
    recipe = load(DATA + "prefix_length: 3\n")
    assert recipe.prefix == {"kind": "linear", "length": 3}
    assert "prefix_length" not in recipe.dump()
    assert load(DATA + "prefix: linear\n").prefix == {"kind": "linear", "length": 4}
    assert load(DATA + "prefix: {length: 3}\nprefix_length: 3\n").prefix == {"kind": "linear", "length": 3}
    assert load(DATA + "prefix: {kind: mlp, width: 9}\nprefix_length: 3\n").prefix == {
        "kind": "mlp",
        "length": 3,
        "width": 9,
    }
    assert load(DATA + "prefix: transformer\n").prefix == {"kind": "transformer", "length": 10}
    with pytest.raises(RecipeError, match="prefix_length is 3 and prefix says length 5"):
        load(DATA + "prefix: {length: 5}\nprefix_length: 3\n")
    with pytest.raises(RecipeError, match="did you mean 'linear'"):
        load(DATA + "prefix: liner\n")
    with pytest.raises(RecipeError, match="unknown option of prefix 'linear' 'lenght'"):
        load(DATA + "prefix: {kind: linear, lenght: 5}\n")


def test_plugins_are_a_list(load):
    with pytest.raises(RecipeError, match="plugins: expected a list of modules and files"):
        load(DATA + "plugins: parts.py\n")


def test_a_slip_is_told_before_anything_heavy_is_loaded(tmp_path):
    (tmp_path / "c.txt").write_text("a dog\n")
    for text, word in (
        (DATA + "adaptor: none\n", "adaptor"),
        (DATA + "training: {epoch: 3}\n", "epoch"),
        ("a: [", "YAML"),
    ):
        (tmp_path / "r.yaml").write_text(text)
        code = (
            "import sys; from close.cli import main; sys.argv = ['close', 'train', 'r.yaml']\n"
            "try: main()\n"
            "except SystemExit as stop: print(stop.code, [m for m in ('torch', 'transformers') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.stdout.strip() == "1 []"
        assert word in done.stderr


def test_the_names_of_trainings_options_are_transformers_own():
    from transformers import Seq2SeqTrainingArguments

    assert _theirs() == {field.name for field in fields(Seq2SeqTrainingArguments)}


def test_a_stage_without_its_data_is_no_recipe(load, tmp_path):
    np.save(tmp_path / "V.npy", np.eye(4, dtype=np.float32))
    for adapter in (
        "mean_shift",
        "linear",
        "[{mean_shift: {fit: {text: V.npy}}}]",
        "[[centring]]",
        "{shared: {fit: {text: V.npy}}}",
    ):
        with pytest.raises(RecipeError, match=r"needs \w+ data"):
            load(DATA + f"adapter: {adapter}\n")
    for adapter in ("{mean_shift: {fit: {image: V.npy}}}", "memory", "shared", "none"):
        load(DATA + f"adapter: {adapter}\n")
    for adapter in ("{mean_shift: {fit: {image: V.npy}}}", "memory"):
        with pytest.raises(RecipeError, match=r"needs \w+ data"):
            load(DATA + f"train_on: image\nadapter: {adapter}\n")


def test_what_does_nothing_to_images_is_not_trained_on_them(load):
    for adapter in ("{random_shift: {norm: 0.5}}", "[{random_shift: {norm: 0.5}}, {gaussian: {std: 0.1}}]"):
        load(DATA + f"adapter: {adapter}\n")
        with pytest.raises(RecipeError, match=r"'random_shift' moves texts alone.*leave it out"):
            load(DATA + f"train_on: image\nadapter: {adapter}\n")
    for adapter in ("none", "{gaussian: {cosine: 0.8}}", "[{uniform: {radius: 0.1}}]"):
        load(DATA + f"train_on: image\nadapter: {adapter}\n")
    assert load(DATA + "train_on: image\n").adapter == "none"  # the ceiling has no noise that nobody asked for
    assert load(DATA).adapter == [{"gaussian": {"cosine": 0.41}}]


def test_what_a_run_keeps_of_its_recipe_names_no_place_of_this_machine(
    tiny_encoder, tiny_t5, captions, tmp_path, monkeypatch
):
    """Copied with its data, a run is the same one; its recipe trains the same again, from wherever."""
    here = tmp_path / "here"
    shutil.copytree(tiny_encoder, here / "models" / "clip")
    shutil.copytree(tiny_t5, here / "models" / "t5")
    (here / "data").mkdir()
    shutil.copy(captions, here / "data" / "c.jsonl")
    np.save(here / "data" / "V.npy", np.eye(16, dtype=np.float32))
    recipe = {
        "task": [{"task": "caption", "train": "data/c.jsonl"}],
        "encoder": "models/clip",
        "language_model": "models/t5",
        "adapter": [{"mean_shift": {"fit": {"image": "data/V.npy"}}}],
        "training": {"max_steps": 1, "batch_size": 8, "save_strategy": "no"},
    }
    (here / "r.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(here)
    run = train(load_recipe("r.yaml"), "runs/mine")
    monkeypatch.chdir("/")
    assert train(load_recipe(here / "r.yaml"), here / run, resume=True) == here / run  # the same one, from elsewhere
    for file in (here / run).rglob("*"):
        assert str(tmp_path).encode() not in file.read_bytes(), file
    assert json.loads((here / run / "config.json").read_text())["encoder"] == "../../models/clip"
    kept = yaml.safe_load((here / run / "recipe.yaml").read_text())
    assert kept["task"][0]["train"] == "../../data/c.jsonl"
    assert (kept["encoder"], kept["language_model"]) == ("../../models/clip", "../../models/t5")
    assert kept["adapter"] == [{"mean_shift": {"fit": {"image": "../../data/V.npy"}}}]
    assert "# caption: t5 behind clip" in (here / run / "README.md").read_text()
    again = load_recipe(here / run / "recipe.yaml")
    assert portable(again.dump(), here / run) == kept
    there = tmp_path / "there"
    shutil.copytree(here, there)
    shutil.rmtree(here)
    assert train(load_recipe(there / "r.yaml"), there / run, resume=True) == there / run
    assert load_run(there / run).encoder.name == str(there / "models" / "clip")
    (there / "models").rename(tmp_path / "models")
    moved = load_run(there / run)
    with pytest.raises(MissingError, match=r"its encoder '../../models/clip' \(weights \w{8}\) .*--encoder PLACE"):
        _ = moved.encoder
    about = there / run / "config.json"  # as runs of before have it
    about.write_text(about.read_text().replace("../../models/clip", str(tmp_path / "models" / "clip")))
    assert load_run(there / run).encoder.name == str(tmp_path / "models" / "clip")
    with pytest.raises(OutputExistsError, match="another recipe"):
        train(load_recipe(there / "r.yaml", [f"encoder={tiny_encoder}"]), there / run, resume=True)


def test_places_that_share_nothing_are_named_alone(tmp_path):
    values = {
        "data": {"train": "/data/c.jsonl", "val": str(tmp_path / "v.txt")},
        "encoder": "hf:a/b",
        "plugins": ["os", "/x/p.py"],
    }
    found = portable(values, tmp_path / "run")
    assert found == {"data": {"train": "c.jsonl", "val": "../v.txt"}, "encoder": "hf:a/b", "plugins": ["os", "p.py"]}
    assert values["data"]["train"] == "/data/c.jsonl"


def test_no_number_of_steps_is_theirs_to_say(load):
    assert load(DATA + "training: {max_steps: -1}").training.max_steps == -1
