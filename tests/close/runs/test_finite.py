"""NaN and infinity are no success, wherever they come from."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import close
from close.errors import DataError, RecipeError, WeightsError
from close.io.files import not_finite, read_json, write_json
from close.model.modeling import CloseModel
from close.runs.recipe import load_recipe
from close.training.train import train

DATA = "data: {train: c.txt}\n"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("training.learning_rate", "training: {learning_rate: .inf}"),
        ("training.learning_rate", "training: {learning_rate: inf}"),
        ("training.epochs", "training: {epochs: .nan}"),
        ("max_grad_norm", "training: {max_grad_norm: .inf}"),
        ("weight_decay", "training: {weight_decay: 'nan'}"),
        ("lora.alpha", "lora: {alpha: -.inf}"),
        ("adapter.0.gaussian.cosine", "adapter: [{gaussian: {cosine: .nan}}]"),
        ("prefix.length", "prefix: {length: .inf}"),
        ("seed", "seed: .nan"),
    ],
)
def test_recipes_hold_finite_numbers(key, text, tmp_path):
    (tmp_path / "r.yaml").write_text(DATA + text)
    with pytest.raises(RecipeError, match=f"{key}.*finite|{key}: expected") as told:
        load_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(told.value)


def test_overrides_are_finite(tmp_path):
    (tmp_path / "r.yaml").write_text(DATA)
    for override in ("training.learning_rate=1e400", "training.learning_rate=inf", "training.weight_decay=nan"):
        with pytest.raises(RecipeError, match="finite"):
            load_recipe(tmp_path / "r.yaml", [override])


@pytest.mark.parametrize("options", [{}, {"logging_steps": 50}, {"gradient_accumulation_steps": 2}], ids=str)
def test_a_loss_that_is_not_finite_stops_the_run(recipe, tmp_path, options):
    wild = recipe({"learning_rate": 1e30, "epochs": 4, "save_strategy": "steps", "save_steps": 1, **options})
    with pytest.raises((RecipeError, WeightsError), match=r"(nan|inf|NaN) .*lower training\.learning_rate"):
        train(wild, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    for checkpoint in (tmp_path / "run").glob("checkpoints/*/model.safetensors"):
        assert all(weight.isfinite().all() for weight in load_file(checkpoint).values())


def test_a_watched_loss_that_is_not_finite_stops_the_run(recipe, captions, tmp_path, monkeypatch):
    forward = CloseModel.forward

    def overflow(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        if not self.training:
            output["loss"] = output["loss"] * torch.inf
        return output

    monkeypatch.setattr(CloseModel, "forward", overflow)
    with pytest.raises(RecipeError, match="the eval_loss is inf by step 3"):
        train(recipe(data={"train": str(captions), "val": str(captions)}), tmp_path / "run")


def test_weights_that_are_not_finite_are_refused(run, tmp_path):
    model = CloseModel.from_pretrained(run)
    with torch.no_grad():
        model.prefix.linear.weight[0, 0] = torch.inf
    with pytest.raises(WeightsError, match=r"new: 'prefix\.linear\.weight' holds NaN or infinity; nothing was saved"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    copy = shutil.copytree(run, tmp_path / "copy")
    save_file(
        load_file(run / "model.safetensors") | {"prefix.linear.weight": model.prefix.linear.weight.detach()},
        copy / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(WeightsError, match=r"copy: 'prefix\.linear\.weight' holds NaN"):
        close.load(copy)


def test_a_score_that_is_not_finite_is_no_answer(run, pictures):
    captioner = close.load(run)
    with torch.no_grad():
        captioner.model.prefix.linear.weight.fill_(torch.nan)
    for settings in ({}, {"num_beams": 1}, {"do_sample": True, "num_beams": 1}):
        with pytest.raises((WeightsError, RecipeError)) as told:
            captioner(pictures / "p00.png", **settings)
        assert "\n" not in str(told.value)


def test_json_holds_finite_numbers(tmp_path):
    place = tmp_path / "scores.json"
    write_json(place, {"scores": {"cider": 1.0}})
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"scores\.json: scores\.parts\.1 is (nan|inf)"):
            write_json(place, {"scores": {"cider": 1.0, "parts": [0.5, wrong]}})
    assert read_json(place) == {"scores": {"cider": 1.0}}
    circle: list = []
    circle.append(circle)
    assert not_finite(circle) is None
    assert json.loads(place.read_text())
