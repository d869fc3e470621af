"""`init_from`: a run begins from a finished one, which it has to fit, and goes on when that is gone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

import close
from close.adapters import fit_adapter
from close.cli.looks import look_at_recipe
from close.errors import CloseError, RecipeError
from close.runs.recipe import Recipe, load_recipe
from close.training.origin import filled_in
from close.training.train import train

STILL = {"epochs": 1, "max_steps": 1, "learning_rate": 1e-30}


class Stop(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Ends training after a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def origin(captions: Path, tiny_encoder: Path, tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an adapter that was fitted and a prefix of three tokens."""
    values = {
        "data": {"train": str(captions)},
        "encoder": str(tiny_encoder),
        "language_model": str(tiny_t5),
        "prefix": {"kind": "linear", "length": 3},
        "adapter": ["shared", {"gaussian": {"cosine": 0.8}}],
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2},
    }
    return train(Recipe.model_validate(values), tmp_path_factory.mktemp("origin") / "run")


@pytest.fixture
def begins(captions: Path, origin: Path) -> Callable[..., Recipe]:
    """A recipe that says what it learns from, and the run that it begins from."""

    def make(training: dict[str, Any] | None = None, **changes: Any) -> Recipe:
        options = {"epochs": 3, "batch_size": 16, "learning_rate": 1e-2, **(training or {})}
        values = {"data": {"train": str(captions)}, "init_from": str(origin), "training": options}
        return Recipe.model_validate(values | changes)

    return make


def test_it_begins_with_all_of_it(begins, origin, tiny_t5, tiny_encoder, tmp_path, cli):
    data = tiny.write_jsonl(tmp_path / "other.jsonl", tiny.caption_rows(24, seed=5))  # would give another `shared`
    run = train(begins(STILL, data={"train": str(data)}), tmp_path / "run")
    before, after = (load_file(folder / "model.safetensors") for folder in (origin, run))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    recipe = load_recipe(run / "recipe.yaml")
    assert recipe.prefix == {"kind": "linear", "length": 3}
    assert recipe.adapter == ["shared", {"gaussian": {"cosine": 0.8}}]
    assert Path(recipe.language_model).resolve() == tiny_t5.resolve()
    assert Path(recipe.encoder).resolve() == tiny_encoder.resolve()
    found = json.loads(cli("info", run, "--json").out)["init_from"]
    parts = (hashlib.sha256((origin / name).read_bytes()).digest() for name in ("config.json", "model.safetensors"))
    assert found["sha256"] == hashlib.sha256(b"".join(parts)).hexdigest()
    assert (run / found["run"]).resolve() == origin.resolve()
    assert found["steps"] == 6
    assert not (run / "checkpoints").exists()


def test_a_scale_that_was_measured_is_said_as_it_was(recipe, tmp_path):
    same = {"prefix": {"kind": "linear", "length": 3, "scale": "embeddings"}}
    first = train(recipe(STILL, **same), tmp_path / "first")
    second = train(recipe(STILL, init_from=str(first), **same), tmp_path / "second")
    third = train(recipe(STILL, init_from=str(second), **same), tmp_path / "third")
    scales = [close.load(run).model.config.prefix["scale"] for run in (first, second, third)]
    assert scales == [scales[0]] * 3
    assert isinstance(scales[0], float)


def test_its_noise_may_be_another(begins, origin, tmp_path, pictures):
    less = train(begins(STILL, adapter=["shared", {"gaussian": {"cosine": 0.9}}]), tmp_path / "less")
    found, before = (close.load(folder).model for folder in (less, origin))
    assert found.adapter.spec() == [before.adapter.spec()[0], {"gaussian": {"cosine": 0.9}}]
    assert found.adapter.findings == before.adapter.findings
    moved = [model.adapter(torch.eye(16), "text") for model in (found, before)]
    assert torch.equal(*moved)  # and what was learnt is the same
    values = [row | {"image": str(pictures / f"p{i // 4:02}.png")} for i, row in enumerate(tiny.caption_rows(48))]
    data = tiny.write_jsonl(tmp_path / "c.jsonl", values)
    onto_images = train(begins(STILL, data={"train": str(data)}, train_on="image"), tmp_path / "images")
    assert close.load(onto_images).model.adapter.spec() == before.adapter.spec()[:1]  # nobody asked for noise on images
    assert load_recipe(onto_images / "recipe.yaml").adapter == ["shared"]


def test_it_keeps_an_adapter_that_was_loaded_whole(begins, recipe, tmp_path):
    np.save(tmp_path / "V.npy", np.eye(16, dtype=np.float32))
    vectors = {"text": tmp_path / "V.npy", "image": tmp_path / "V.npy"}
    fit_adapter(["mean_shift", {"gaussian": {"cosine": 0.7}}], tmp_path / "saved", **vectors)
    loaded = {"load": str(tmp_path / "saved")}
    first = train(recipe(STILL, adapter=loaded), tmp_path / "first")
    run = train(begins(STILL, init_from=str(first)), tmp_path / "run")
    found, before = (close.load(folder).model.adapter.spec() for folder in (run, first))
    assert found == before == [{"mean_shift": {"scale": 1.0}}, {"gaussian": {"cosine": 0.7}}]


def test_it_learns_on(begins, recipe, origin, tmp_path):
    """What it begins with is better than what a new run has after as many steps, and the recipe may say the same again."""
    options = {"epochs": 2, "learning_rate": 3e-2, "logging_steps": 1}
    same: dict[str, Any] = {
        "adapter": ["shared", {"gaussian": {"cosine": 0.8}}],
        "prefix": {"kind": "linear", "length": 3},
    }
    first, new = train(begins(options, **same), tmp_path / "a"), train(recipe(options, **same), tmp_path / "b")
    begun, fresh = (
        [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines() if '"loss"' in line]
        for run in (first, new)
    )
    assert begun[0] < fresh[0]


@pytest.mark.parametrize("at", [1, 4], ids=["before a checkpoint", "after one"])
def test_it_goes_on_when_the_origin_is_gone(begins, origin, tmp_path, at):
    place = shutil.copytree(origin, tmp_path / "origin")
    made = begins(init_from=str(place))
    whole = train(made, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "run", callbacks=[Stop(at)])
    shutil.rmtree(place)
    run = train(made, tmp_path / "run", resume=True)
    for name in ("model.safetensors", "recipe.yaml", "run.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert train(made, run, resume=True) == run
    with pytest.raises(CloseError, match="no run there"):
        train(made, tmp_path / "new")


def test_the_language_model_that_it_was_made_of_may_be_gone(begins, origin, tmp_path):
    place = shutil.copytree(origin, tmp_path / "origin")
    text = (place / "recipe.yaml").read_text().splitlines()
    (place / "recipe.yaml").write_text(
        "\n".join("language_model: gone/away" if "language_model" in t else t for t in text)
    )
    assert train(begins(STILL, init_from=str(place)), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prefix": {"kind": "linear", "length": 5}}, "prefix is .*3.* there, and .*5.* here"),
        ({"adapter": "none"}, "adapter is .*shared.* there, and none here"),
        ({"language_model": "flan_t5_dir"}, "flan_t5_dir' here, whose dense_act_fn is 'gelu_new'"),
        ({"language_model": "bart_dir"}, "whose model_type is 'bart' and not 't5'"),
        ({"language_model": "other_t5"}, "language_model is .*t5_dir' there, and .*other_t5' here. Left out"),
        ({"prefix": "linear", "adapter": "none"}, "prefix is .*; adapter is "),
        ({"encoder": "other"}, "comes from encoder .* but the recipe uses encoder"),
        ({"init_from": "nowhere"}, "no run there"),
        ({"init_from": "own"}, "can't begin from its own folder"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_in_one_line(begins, zoo, tmp_path, monkeypatch, origin, changes, told):
    monkeypatch.setattr("close.training.train.cached_table", lambda *args, **kwargs: pytest.fail("work began"))
    places = {"other": lambda: tiny.open_clip_dir(tmp_path / "other", seed=1), "own": lambda: tmp_path / "run"}
    places["other_t5"] = lambda: shutil.copytree(zoo("t5_dir"), tmp_path / "other_t5")  # as large, and another one
    for name in ("flan_t5_dir", "bart_dir"):
        places[name] = lambda name=name: zoo(name)
    made = {
        key: str(places[value]()) if value in places else value
        for key, value in changes.items()
        if isinstance(value, str)
    }
    with pytest.raises(CloseError, match=told) as error:
        train(begins(**(changes | made)), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_recipe_brings_the_parts_that_the_run_it_begins_from_was_made_with(tmp_path):
    """What is looked at before they are loaded does not ask for them."""
    (tmp_path / "parts_of_both.py").touch()
    (tmp_path / "rows.jsonl").write_text('{"source": "a cat"}\n')
    (tmp_path / "base").mkdir()
    made_with = {"tasks": ["caption"], "plugins": ["../parts_of_both.py"]}
    (tmp_path / "base" / "run.json").write_text(json.dumps(made_with))
    file = tmp_path / "recipe.yaml"
    file.write_text("init_from: base\nplugins: [./parts_of_both.py]\ndata: {train: rows.jsonl}\n")
    assert load_recipe(file, look=look_at_recipe).init_from == tmp_path / "base"


def test_an_unfinished_run_is_no_beginning(begins, recipe, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path / "half", callbacks=[Stop(4)])
    with pytest.raises(CloseError, match="not finished"):
        train(begins(init_from=str(tmp_path / "half")), tmp_path / "run")


def test_a_run_does_not_overwrite_what_it_begins_from(begins, origin, tmp_path):
    place = shutil.copytree(origin, tmp_path / "origin")
    with pytest.raises(RecipeError, match="own folder"):
        train(begins(init_from=str(place)), place, overwrite=True)
    assert (place / "run.json").is_file()


def test_what_is_taken_goes_with_what_is_said(recipe, captions, tmp_path):
    """A search's noise is on texts; of several tasks nobody knows whose rows the memory is."""
    run = train(recipe({"max_steps": 1}, retrieve={"noise": 0.5}), tmp_path / "run")
    shown = recipe(train_on="image", init_from=str(run)).model_copy()
    left = {key: value for key, value in shown.model_dump(exclude_unset=True).items() if key != "language_model"}
    found = filled_in(Recipe.model_validate(left), tmp_path / "new")
    assert found.retrieve is not None
    assert found.retrieve.noise is None
    parts = [{"task": name, "train": str(captions)} for name in ("caption", "vqa")]
    with pytest.raises(RecipeError, match=r"what is taken from it: retrieve: with a list of tasks, say which rows"):
        filled_in(Recipe.model_validate({"task": parts, "init_from": str(run)}), tmp_path / "new")
