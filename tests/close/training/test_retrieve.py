"""`retrieve` in a recipe, and training with what is found."""

import json

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from close.data.shards import open_rows
from close.encoders import load_encoder
from close.errors import CloseError, OutputExistsError
from close.plugins import load_plugins
from close.retrieval.content import WORD_FINDERS
from close.runs.prompts import Prompter
from close.runs.recipe import Recipe, load_recipe
from close.training.origin import filled_in
from close.training.train import train
from close.vectors.cache import cached_table


@pytest.fixture
def recipe(captions, tiny_encoder, tiny_t5):
    """`recipe(k=2, into="captions")`: one of a short run."""

    def build(top=(), **retrieve):
        values = {
            "data": {"train": str(captions)},
            "encoder": str(tiny_encoder),
            "language_model": str(tiny_t5),
            "training": {"batch_size": 16, "max_steps": 2, "save_strategy": "no"},
            "retrieve": retrieve or None,
        }
        return Recipe.model_validate(values | dict(top))

    return build


def tensors(run):
    return load_file(run / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_training_reads_what_is_found_and_the_run_says_how(recipe, captions, tmp_path, monkeypatch):
    plain = train(recipe(), tmp_path / "plain")
    assert json.loads((plain / "config.json").read_text())["retrieve"] is None
    settings = {"k": 3, "noise": 0.6}
    run = train(recipe(**settings), tmp_path / "run")
    about = json.loads((run / "config.json").read_text())
    assert about["vectors"] == 4
    kept = about["retrieve"]
    assert {
        "k": 3,
        "noise": {"cosine": 0.6},
        "into": "vectors",
        "main": True,
        "leave_out": "texts",
    }.items() <= kept.items()
    assert (run / kept["memory"]["reference"]).resolve() == captions
    assert kept["memory"]["texts_in_it"] == 48
    assert tensors(run).keys() == tensors(plain).keys()
    assert not same(tensors(run), tensors(plain))
    with monkeypatch.context() as patch:
        patch.setattr(
            "close.retrieval.training.nearest", None
        )  # a second process, or a run that goes on, searches no more
        assert same(tensors(train(recipe(**settings), tmp_path / "again")), tensors(run))
    assert not same(tensors(train(recipe(**settings | {"noise": 0.3}), tmp_path / "other")), tensors(run))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": 2, "into": "captions"}, "similar images show a "),
        ({"into": "words", "dropout": 0.0}, "there are "),
        ({"into": ["vectors", "words"], "k": 2, "among": 4}, "there are "),
    ],
)
def test_words_are_in_the_prompt(recipe, tmp_path, monkeypatch, settings, said):
    prompts = []
    original = Prompter.__call__

    def spy(self, contexts):
        prompts.extend(contexts)
        return original(self, contexts)

    monkeypatch.setattr(Prompter, "__call__", spy)
    train(recipe(**settings), tmp_path / "run")
    assert prompts
    assert all(prompt.lower().startswith(said) for prompt in prompts)


def test_words_of_images_are_those_of_their_captions(recipe, captions, pictures, tmp_path, monkeypatch):
    """And never of an answer to what is asked of them."""
    prompts, original = [], Prompter.__call__
    monkeypatch.setattr(Prompter, "__call__", lambda self, texts: prompts.extend(texts) or original(self, texts))
    shown = [{"id": f"{n}", "image": str(one), "target": f"a red {n}cat"} for n, one in enumerate(pictures.iterdir())]
    settings = {"into": "words", "dropout": 0.0, "memory": str(captions), "at_least": 1, "k": 3}
    data = {"train": str(tiny.write_jsonl(tmp_path / "a.jsonl", shown))}
    top = {"train_on": "image", "adapter": "none", "data": data}
    train(recipe(top, **settings), tmp_path / "run")
    assert prompts
    assert all("cat" in prompt for prompt in prompts)
    asked = [row | {"context": "what is it?", "target": "a cat"} for row in shown]
    data["train"] = str(tiny.write_jsonl(tmp_path / "b.jsonl", asked))
    with pytest.raises(CloseError, match="has no 'source', and retrieve: into: words trains on the words"):
        train(recipe(top | {"task": "vqa"}, **settings), tmp_path / "asked")


@pytest.mark.parametrize("into", ["vectors", "captions"])
def test_images_search_too_and_leave_their_captions_out(recipe, pictures, tmp_path, into):
    names = sorted(pictures.iterdir())
    texts = tiny.sentences(36)
    rows = [
        {"id": f"{n}", "source": text, "image": str(names[n // 3]), "group": f"g{n // 3}"}
        for n, text in enumerate(texts)
    ]
    data = tiny.write_jsonl(tmp_path / "pairs.jsonl", rows)
    chosen = recipe({"train_on": "image", "data": {"train": str(data)}}, k=3, into=into)
    assert chosen.retrieval["leave_out"] == "groups"
    run = train(chosen, tmp_path / "run")
    assert json.loads((run / "config.json").read_text())["retrieve"]["into"] == into


def test_another_encoder_a_table_and_the_neighbours_alone(recipe, captions, tiny_encoder, zoo, tmp_path):
    run = train(recipe(k=2, encoder=str(zoo("hf_clip_dir")), raw=True), tmp_path / "two")
    kept = json.loads((run / "config.json").read_text())["retrieve"]
    assert kept["encoder_fingerprint"] != json.loads((run / "config.json").read_text())["encoder_fingerprint"]
    table = cached_table(open_rows(captions), load_encoder(str(tiny_encoder)), "text").path
    told = train(recipe(k=2, into="captions", memory=str(table), texts=str(captions)), tmp_path / "told")
    kept = json.loads((told / "config.json").read_text())["retrieve"]["memory"]
    assert [(told / kept[key]).resolve() for key in ("reference", "texts")] == [table.resolve(), captions.resolve()]
    alone = train(recipe(k=2, main=False, noisy=True), tmp_path / "alone")
    assert json.loads((alone / "config.json").read_text())["vectors"] == 2


def test_a_memory_that_changes_while_a_run_is_stopped(recipe, captions, tmp_path):
    memory = tmp_path / "memory.jsonl"
    memory.write_text(captions.read_text())
    chosen = recipe({"training": {"batch_size": 16, "max_steps": 2, "save_steps": 1}}, memory=str(memory), k=2)

    class Stopping(TrainerCallback):
        def on_save(self, *args, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "run", callbacks=[Stopping()])
    whole = train(chosen, tmp_path / "whole")
    memory.write_text(captions.read_text().replace("red", "blue"))
    with pytest.raises(OutputExistsError, match=r"memory\.jsonl has changed since the run began"):
        train(chosen, tmp_path / "run", resume=True)
    memory.write_text(captions.read_text())
    assert same(tensors(train(chosen, tmp_path / "run", resume=True)), tensors(whole))


def test_a_run_that_begins_from_another_retrieves_as_that_does(recipe, captions, tiny_encoder, tiny_t5, tmp_path):
    origin = train(recipe(k=2, noise=0.5), tmp_path / "origin")
    values = {
        "data": {"train": str(captions)},
        "init_from": str(origin),
        "training": {"max_steps": 1, "save_strategy": "no"},
    }
    begun = train(Recipe.model_validate(values), tmp_path / "begun")
    kept = json.loads((begun / "config.json").read_text())["retrieve"]
    assert {"k": 2, "noise": {"cosine": 0.5}}.items() <= kept.items()
    assert filled_in(Recipe.model_validate(values), begun, resume=True).retrieval["k"] == 2
    other = Recipe.model_validate(values | {"retrieve": {"k": 3}})
    assert filled_in(other, tmp_path / "other").retrieval["k"] == 3


WRONG = [
    ({"kk": 3}, "unknown key 'retrieve.kk': did you mean"),
    ({"k": 0}, "retrieve.k"),
    ({"k": 2.5}, "retrieve.k"),
    ({"noise": 2}, "cosine is a number ≥ 1e-06 and ≤ 1, not 2"),
    ({"noise": "much"}, "cosine is a number"),
    ({"noise": {"sigma": 1}}, "unknown option of adapter 'gaussian' 'sigma'"),
    ({"noise": {"std": 0.1, "var": 0.01}}, "exactly one of std, var, cosine"),
    ({"into": "tokens"}, "retrieve.into"),
    ({"at_least": 2}, "at_least goes with into: words, not with into: vectors"),
    ({"into": ["captions", "words"]}, "or vectors with one of the others"),
    ({"into": []}, "into is one of vectors, captions, words"),
    ({"into": ["vectors", "vectors"]}, "into is one of"),
    ({"into": ["vectors", "words"], "among": 3, "at_least": 4}, "at_least is 4, and among"),
    ({"into": ["vectors", "captions"], "among": 3}, "among goes with into: words, not with into: vectors, captions"),
    ({"into": "captions", "raw": True}, "raw goes with into: vectors, not with into: captions"),
    ({"into": "words", "k": 3, "at_least": 4}, "at_least is 4, and k, the captions that words are counted in, is 3"),
    ({"into": "words", "noise": 0.5}, "searches nothing; leave noise out"),
    ({"into": "captions", "prompt": "Look:"}, "prompt has one {}"),
    ({"into": "words", "language": "english"}, "unknown language 'english'"),
    ({"memory": "gone.jsonl"}, "gone.jsonl: no such file"),
    ({"memory": "few.jsonl"}, "few.jsonl has 4 rows, and k is 5"),
    ({"memory": "few.jsonl", "into": "words", "among": 7}, "few.jsonl has 4 rows, and among is 7"),
    ({"into": "words", "k": 2, "among": 3}, "k does nothing beside it"),
    ({"memory": "few.jsonl", "k": 3, "leave_out": "groups"}, "finds 0 texts that are not its own"),
    ({"texts": "few.jsonl", "k": 3}, "texts are the rows that a table was made of, and no memory is given"),
    ({"memory": "few.jsonl", "texts": "few.jsonl", "k": 3}, "texts are for a table"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_what_is_wrong_is_told(captions, tiny_encoder, tiny_t5, tmp_path, settings, message):
    tiny.write_jsonl(tmp_path / "few.jsonl", tiny.caption_rows(4))
    values = {"data": {"train": str(captions)}, "encoder": str(tiny_encoder), "language_model": str(tiny_t5)}
    values |= {"training": {"max_steps": 1}, "retrieve": settings}
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))  # JSON is YAML
    with pytest.raises(CloseError) as told:
        train(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run")
    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_it_does_not_fit_the_rest_of_the_recipe(captions):
    base = {"data": {"train": str(captions)}, "retrieve": {"noise": 0.5}}
    with pytest.raises(ValueError, match="with train_on: image leave it out"):
        Recipe.model_validate(base | {"train_on": "image"})
    several = {"task": [{"task": "caption", "train": str(captions)}], "retrieve": {"k": 2}}
    with pytest.raises(ValueError, match="say which rows are the memory"):
        Recipe.model_validate(several)
    multiple = Recipe.model_validate(base | {"captions": "multiple"})
    assert multiple.retrieval["leave_out"] == "groups"


def test_a_function_of_ones_own_travels_with_the_run(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(WORD_FINDERS, "_items", {})
    monkeypatch.setattr(WORD_FINDERS, "origins", {})
    plugin = tmp_path / "thirds.py"
    plugin.write_text(
        "from close.retrieval.content import WORD_FINDERS\n"
        "@WORD_FINDERS.register('thirds')\n"
        "def thirds(texts):\n"
        "    '''Third words.'''\n"
        "    return [text.split()[2:3] for text in texts]\n"
    )
    load_plugins([str(plugin)])
    run = train(recipe(into="words", language="thirds"), tmp_path / "run")
    assert json.loads((run / "run.json").read_text())["plugins"] == ["../thirds.py"]


def test_places_of_a_recipe_move_with_it(captions, tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "memory.jsonl").write_text(captions.read_text())
    (folder / "recipe.yaml").write_text("data: {train: memory.jsonl}\nretrieve: {memory: memory.jsonl, k: 2}\n")
    chosen = load_recipe(folder / "recipe.yaml")
    assert chosen.retrieve is not None
    assert chosen.retrieve.memory == folder / "memory.jsonl"
    again = Recipe.model_validate(chosen.dump())
    assert again == chosen
    assert np.isclose(
        Recipe.model_validate({"data": {"train": "x"}, "retrieve": {"noise": 0.67}}).retrieve.noise["cosine"], 0.67
    )
