"""Recipes, runs and adapters that somebody else made, or that were damaged on the way: read, or refused in one line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fuzzing import INPUTS, as_json, damaged, reshaped

from close.adapters import build_adapter, load_adapter, save_adapter
from close.adapters.resolve import check_adapter, parse_spec
from close.errors import CloseError, DataError
from close.io.plain import parse_yaml, read_plain
from close.runs.confidence import Confidence, confidence_file, run_sum
from close.runs.folder import is_finished, recipe_of, started_run
from close.runs.inspection import describe
from close.runs.outputs import Answer
from close.runs.pipeline import load
from close.runs.recipe import Recipe, load_recipe
from close.training.train import train

RECIPE = {
    "task": "caption",
    "data": {"train": "c.txt", "val": "c.txt", "embeddings": None},
    "encoder": "mini",
    "language_model": "mini",
    "prefix": {"kind": "linear", "length": 4},
    "adapter": [{"mean_shift": {"fit": {"image": "V.npy"}}}, {"gaussian": {"cosine": 0.41}}, ["none", {"load": "A"}]],
    "train_on": "text",
    "captions": "single",
    "lora": {"r": 4, "alpha": 8, "target_modules": "q"},
    "training": {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 3, "report_to": ["none"]},
    "seed": 3,
    "plugins": [],
}
TASKS = [
    {"task": "caption", "train": "c.txt", "weight": 0.5},
    {"task": "vqa", "train": "c.txt", "captions": "multiple"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("stranger")
    rows = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    np.save(place / "V.npy", rows / np.linalg.norm(rows, axis=1, keepdims=True))
    (place / "c.txt").write_text("a dog\na cat\n")
    chain = build_adapter(["centring", [{"random_shift": {"norm": 1}}, "memory"]], 8)
    save_adapter(chain.fit(text=rows, image=rows), place / "A")
    return place


def test_fuzzed_recipes(tried, folder, monkeypatch):
    monkeypatch.chdir(folder)
    several = {**RECIPE, "task": TASKS, "data": {}}
    documents = [*reshaped(RECIPE, INPUTS // 2), *reshaped(several, INPUTS // 4, seed=1)]
    texts = list(map(as_json, documents))
    texts += damaged(yaml.safe_dump(RECIPE).encode(), INPUTS - len(texts))
    for text in texts:
        Path("r.yaml").write_bytes(text)
        made = tried(lambda: load_recipe("r.yaml"))
        if isinstance(made, Recipe):
            assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(made.dump()))) == made
    assert tried.refused > INPUTS // 3


def test_fuzzed_adapter_specs(tried, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for spec in reshaped(RECIPE["adapter"], INPUTS):
        tried(lambda spec=spec: check_adapter(spec, trains_on="text"))
        tried(lambda spec=spec: build_adapter(spec, 8))
    for text in damaged(yaml.safe_dump(RECIPE["adapter"]).encode(), INPUTS):
        tried(lambda text=text: check_adapter(parse_spec(text.decode("utf-8", "replace"))))


def test_fuzzed_saved_adapters(tried, folder, tmp_path):
    about = json.loads((folder / "A" / "adapter.json").read_text())
    tensors = (folder / "A" / "adapter.safetensors").read_bytes()
    x = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1)
    shutil.copytree(folder / "A", tmp_path / "A")

    def use():
        describe(str(tmp_path / "A"))
        load_adapter(tmp_path / "A", fingerprint="f")(x, "text")

    for text in [*map(as_json, reshaped(about, INPUTS // 2)), *damaged(as_json(about), INPUTS // 4)]:
        (tmp_path / "A" / "adapter.json").write_bytes(text)
        tried(use)
    (tmp_path / "A" / "adapter.json").write_bytes(as_json(about))
    for text in damaged(tensors, INPUTS // 4):
        (tmp_path / "A" / "adapter.safetensors").write_bytes(text)
        tried(use)


@pytest.mark.parametrize(
    "name", ["run.json", "config.json", "generation_config.json", "recipe.yaml", "model.safetensors", "tokenizer.json"]
)
def test_fuzzed_runs(tried, run, recipe, tmp_path, name):
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / name
    whole, count = file.read_bytes(), INPUTS // 6
    texts = list(damaged(whole, count))
    if name != "model.safetensors":
        document = yaml.safe_load(whole.decode()) if name == "recipe.yaml" else json.loads(whole)
        texts += map(as_json, reshaped(document, count))
    embeds = torch.nn.functional.normalize(torch.randn(1, 16), dim=-1)

    def use():
        describe(str(tmp_path / "run"))
        captioner = load(tmp_path / "run", device="cpu")
        captioner.answer(embeds, ["what ?"], max_new_tokens=3)

    use()  # whole as it is
    for text in texts:
        file.write_bytes(text)
        if name == "recipe.yaml":
            tried(lambda: is_finished(tmp_path / "run", recipe(), resume=True, overwrite=False))
        tried(use)


def test_fuzzed_runs_that_had_begun(tried, folder, tmp_path, monkeypatch):
    """What a run wrote down before it was stopped: it is gone on with, or refused."""
    monkeypatch.chdir(folder)
    recipe = Recipe.model_validate(RECIPE)
    begun = {"recipe": recipe.dump(), "encoder": "f", "data": {"c.txt": "0"}, "origin": {"run": "x", "sha256": "0"}}
    file = tmp_path / "run" / "checkpoints" / "started.json"
    file.parent.mkdir(parents=True)
    for text in [as_json(begun), *map(as_json, reshaped(begun)), *damaged(as_json(begun), INPUTS // 4)]:
        file.write_bytes(text)
        tried(lambda: is_finished(tmp_path / "run", recipe, resume=True, overwrite=False))
        tried(lambda: (started_run(tmp_path / "run"), recipe_of(tmp_path / "run")))


CALIBRATION = {
    "run_sha256": "",
    "settings": {"modality": "image", "num_beams": 5, "rerank": None},
    "map": {"by": "both", "x": [-2.0, -1.0, 0.5], "y": [0.1, 0.5, 1.0], "weights": [1.0, 0.5, 0.25]},
}


def test_fuzzed_calibrations(tried, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    file = confidence_file(tmp_path, "caption")
    file.parent.mkdir()
    whole = CALIBRATION | {"run_sha256": run_sum(tmp_path)}
    answers = [Answer("a dog", -1.5, cosine=0.3), Answer("", -1e308), Answer("a", 0.0, cosine=1.0)]
    maps = [whole | {"map": value} for value in reshaped(whole["map"], INPUTS // 2)]
    for text in map(as_json, [whole, *maps, *reshaped(whole, INPUTS // 2)]):
        file.write_bytes(text)
        found = tried(lambda: Confidence.load(tmp_path, "caption"))
        if isinstance(found, Confidence):
            found.differs({"modality": "text"})
            sure = [answer.confidence for answer in found.of(answers)]
            assert all(0 <= one <= 1 or one != one for one in sure)
    for text in damaged(as_json(whole), INPUTS // 4):
        file.write_bytes(text)
        tried(lambda: Confidence.load(tmp_path, "caption"))


@pytest.mark.parametrize(
    "base", ["x", [], {}, {"reference": "t5"}, {"reference": 3, "fingerprint": "x"}, {"reference": ""}]
)
def test_a_language_model_by_reference_is_looked_at(run, recipe, tmp_path, base):
    """Wherever a run is read: to be used, to be begun from, to be merged."""
    shutil.copytree(run, tmp_path / "run")
    _changed(tmp_path / "run" / "config.json", base=base)
    with pytest.raises(CloseError, match=r"base is \{reference, fingerprint\} of the run's language model"):
        load(tmp_path / "run", device="cpu")
    with pytest.raises(CloseError, match=r"base is \{reference, fingerprint\}"):
        train(recipe(init_from=tmp_path / "run"), tmp_path / "new")


def _changed(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("config.json", {"prefix": {"kind": "linear", "length": 10**9}}, "length is a whole number ≥ 1 and ≤ 1024"),
        ("config.json", {"prefix": {"kind": "linear", "length": 1000}}, "is stored as"),
        ("config.json", {"prefix": {"kind": "transformer", "layers": 10**9}}, "layers is 1000000000"),
        ("config.json", {"prefix": {"kind": "transformer", "layers": 49}}, "layers is 49"),
        ("config.json", {"prefix": {"kind": "transformer", "heads": 10**9}}, "heads is a whole number ≥ 1 and ≤ 128"),
        (
            "config.json",
            {"prefix": {"kind": "transformer", "heads": 7}},
            "7 heads do not divide the language model's width 16",
        ),
        ("config.json", {"prefix": {"kind": "transformer", "length": 4}}, "missing weights, 'prefix.layers.0"),
        ("config.json", {"prefix": {"kind": "transformer", "source_length": 10**9}}, "source_length is a whole number"),
        ("config.json", {"prefix": {"kind": "mlp", "width": 10**9}}, "width is a whole number ≥ 1 and ≤ 1000000"),
        ("config.json", {"prefix": {"kind": "mlp", "width": 10**6}}, "missing weights, 'prefix.inner"),
        ("config.json", {"prefix": None, "prefix_length": 10**9}, "length is a whole number ≥ 1 and ≤ 1024"),
        ("config.json", {"embed_dim": 10**9}, "embed_dim is a whole number from 1 to 65536"),
        ("config.json", {"embed_dim": 60_000}, "is stored as"),
        ("config.json", {"adapter": {"memory": {"size": 10**12}}}, "size is a whole number ≥ 1 and ≤ 1000000000"),
        ("config.json", {"adapter": {"memory": {"size": 10**7}}}, "missing weights, 'adapter.memory'"),
        ("config.json", {"adapter": ["covariance"] * 300}, "missing weights"),
        ("config.json", {"adapter": [[[[[[[[[[[[[["none"]]]]]]]]]]]]]]}, "at most 12 levels deep"),
        ("config.json", {"num_labels": 10**9}, "num_labels is 1000000000, expected 100000 at most"),
        ("config.json", {"language_model": {"model_type": "t5", "num_layers": 10**9}}, "num_layers is 1000000000"),
        ("config.json", {"language_model": {"model_type": "t5", "vocab_size": 10**12}}, "is stored as"),
        ("config.json", {"language_model": {"model_type": "bart", "encoder_layers": 10**9}}, "encoder_layers is"),
        ("config.json", {"attn_implementation": "somebody/kernel"}, "which no run of this toolkit has"),
        ("config.json", {"quantization_config": {"quant_method": "awq"}}, "which no run of this toolkit has"),
        ("generation_config.json", {"max_new_tokens": 10**9}, "max_new_tokens is 1000000000, expected"),
        ("generation_config.json", {"max_new_tokens": "many"}, "max_new_tokens is 'many', expected a number"),
        ("generation_config.json", {"num_beams": 10**6}, "num_beams is 1000000, expected"),
        ("run.json", {"tasks": "caption"}, "tasks is a list of names"),
        ("run.json", {"tasks": []}, "'tasks' is missing"),
        ("run.json", {"plugins": [3]}, "plugins is a list of names"),
    ],
)
def test_what_a_run_asks_for_is_looked_at_before_memory_is_taken(run, tmp_path, monkeypatch, name, values, words):
    shutil.copytree(run, tmp_path / "run")
    _changed(tmp_path / "run" / name, **values)
    monkeypatch.setattr(torch, "zeros", _small(torch.zeros))
    monkeypatch.setattr(torch, "empty", _small(torch.empty))
    with pytest.raises(CloseError) as told:
        load(tmp_path / "run", device="cpu")
    assert words in str(told.value)
    assert name in str(told.value) or "is stored as" in words or "missing weights" in words


def _small(make):
    def made(*size, **settings):
        found = make(*size, **settings)
        assert found.device.type == "meta" or found.numel() < 10**6
        return found

    return made


def test_what_a_saved_adapter_asks_for_is_looked_at_too(folder, tmp_path):
    for values, words in (
        ({"dim": 10**9}, "an adapter is for 1 to 65536 dimensions"),
        ({"dim": 60_000}, "is stored as"),
        ({"dim": "eight"}, "dim is a number"),
        ({"adapter": [["centring"], {"memory": {"size": 10**7}}]}, "damaged"),
        ({"adapter": "../../x"}, "damaged"),
        ({"encoder": ["x"]}, "are texts"),
        ({"plugins": "x"}, "plugins are names"),
    ):
        shutil.copytree(folder / "A", tmp_path / "A", dirs_exist_ok=True)
        _changed(tmp_path / "A" / "adapter.json", **values)
        with pytest.raises(DataError, match=words):
            load_adapter(tmp_path / "A")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &x [*x]", "nested more than 50 deep"),
        ("[" * 5000, "nested more than 50 deep"),
        (
            "a: &a [x, x, x, x]\n"
            + "".join(
                f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
            ),
            "100000 values",
        ),
        ("seed: 1\nseed: 2", "key 'seed' is given twice"),
        ("seed: " + "9" * 5000, "digits"),
        ("seed: 9" + "9" * 50, "digits"),
        ("a: !!binary aGk=", "not bytes"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ('a: "\\0"', "a character that no text has"),
        ("? [1, 2]\n: 3", "unhashable"),
        ("x" * 2**21, "longer than"),
    ],
)
def test_yaml_beyond_measure(text, words):
    with pytest.raises(ValueError, match=words):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nadapter: none: x", "line 2, column 14: mapping values are not allowed here ('adapter: none: x')"),
        ("a:\n\tb: 2", "line 2, column 1: a tab, where YAML takes spaces ('b: 2')"),
        (
            "a: [1,\n2\nb: 3",
            "line 3, column 2: expected ',' or ']', but got ':', while parsing a flow sequence from line 1 on (",
        ),
        ("a: [1", "line 1, column 6: expected ',' or ']', but got '<stream end>' ('a: [1')"),
        ("a: {b: 0,41}", "line 1, column 8: 'b: 0,41': a number takes a decimal point, not a comma: 0.41 ("),
        ("- a:\n- {c: x, b: -0,5e-3, d: 1}", "line 2, column 13: 'b: -0,5e-3': a number takes a decimal point"),
        ("a: 'x\n", "line 2, column 1: found unexpected end of stream, while scanning a quoted scalar from line 1 on"),
    ],
)
def test_broken_yaml_is_told_with_its_line(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_yaml(text)


def test_numbers_are_keys_where_no_comma_was_meant():
    text = "{a: [0,41], b: 0, '41': , c: {d: 3, e: }}"
    assert parse_yaml(text) == {"a": [0, 41], "b": 0, "41": None, "c": {"d": 3, "e": None}}
    assert parse_yaml("1: 2\n3:\n") == {1: 2, 3: None}


def test_dates_stay_text_and_merges_work():
    assert parse_yaml("a: 2026-13-45\nb: 2026-01-02") == {"a": "2026-13-45", "b": "2026-01-02"}
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}")["b"] == {"x": 1, "y": 2}


def test_a_message_is_one_line_whatever_it_quotes(tmp_path):
    told = str(DataError("a\nb\x1b[31m\u2028c\ud800" + "x" * 9000))
    assert told.startswith(r"a\nb\u001b[31m\u2028c\ud800xxx")
    assert len(told) < 1600
    assert str(CloseError("नमस्ते 😀 – “x”")) == "नमस्ते 😀 – “x”"
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DataError, match="expected an object"):
        read_plain(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="not a JSON file"):
        read_plain(tmp_path / "a.json")
