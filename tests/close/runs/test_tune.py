"""`tune: full | lora | none`: what learns, what is stored of it, and what is told when the rest is gone."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, TrainerCallback

import close
from close.errors import CloseError, RecipeError, WeightsError
from close.model.language_models.loading import load_language_model
from close.model.lora import lora_targets
from close.model.modeling import CloseModel
from close.runs.merge import merge
from close.runs.pipeline import CloseCaptioner
from close.runs.recipe import Recipe, checked
from close.training.train import train

TUNES: list[dict[str, Any]] = [{"tune": "none"}, {"lora": {"r": 4, "alpha": 12, "dropout": 0.1}}]
NAMES = ["none", "lora"]
FAST = {"epochs": 2, "learning_rate": 2e-2}


def said_by(model: CloseModel, tokenizer: Any, count: int = 12) -> list[str]:
    embeds = torch.nn.functional.normalize(torch.randn(count, 16, generator=torch.Generator().manual_seed(3)), dim=-1)
    captioner = CloseCaptioner(model.eval(), tokenizer, tasks=["caption"])
    return [text for text, _ in captioner.generate(embeds, [""] * count, num_beams=3, min_new_tokens=4)]


class Heard(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """What the model says when training ends, and which of its parts were in training mode."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.training: list[bool] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        whole = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.training = [whole.training, whole.prefix.training, any(m.training for m in whole.language_model.modules())]

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        whole = model.get_base_model() if hasattr(model, "get_base_model") else model
        if not args.bf16:  # what is frozen is held in bf16 then, which autocast alone can use
            self.said = said_by(whole, kwargs["processing_class"])


KINDS = pytest.mark.parametrize("model_place", ["t5_dir", "gpt2_dir"], indirect=True)
"""A language model of each kind."""


@pytest.fixture
def model_place(request: Any, zoo: Callable[[str], Path], tmp_path: Path) -> Path:
    """A language model of this test's own."""
    return shutil.copytree(zoo(getattr(request, "param", "t5_dir")), tmp_path / "models" / "t5")


@pytest.fixture
def tuned(recipe: Callable[..., Recipe], model_place: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, *callbacks: TrainerCallback, **changes: Any) -> Path:
        made = recipe(FAST | changes.pop("training", {}), language_model=str(model_place), **changes)
        return train(made, tmp_path / "runs" / name, callbacks=callbacks)

    return make


@KINDS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("changes", TUNES, ids=NAMES)
def test_what_was_trained_is_all_that_is_stored(tuned, model_place, changes, precision, cli):
    heard = Heard()
    run = tuned("run", heard, training={"precision": precision}, **changes)
    stored = load_file(run / "model.safetensors")
    inner = {key for key in stored if key.startswith("language_model.")}
    assert all(key.endswith((".lora_A", ".lora_B")) for key in inner)
    assert bool(inner) == ("lora" in changes)
    assert {"prefix.linear.weight", "prefix.linear.bias"} <= stored.keys()
    loaded = close.load(run).model
    if precision != "bf16":
        assert said_by(loaded, AutoTokenizer.from_pretrained(run)) == heard.said
    base = load_language_model(str(model_place)).state_dict()
    changed = {key for key, value in loaded.language_model.state_dict().items() if not torch.equal(value, base[key])}
    ends = (".q.weight", ".v.weight", ".c_attn.weight")
    assert changed == {key for key in base if key.endswith(ends) and "lora" in changes}
    about = json.loads(cli("info", run, "--json").out)
    assert about["tune"] == changes.get("tune", "lora")
    assert about["language_model_is"]["by"] == "reference"
    assert (run / about["language_model_is"]["reference"]).resolve() == model_place.resolve()


@KINDS
@pytest.mark.parametrize("changes", TUNES, ids=NAMES)
def test_merge_writes_the_whole(tuned, model_place, changes, cli, told, tmp_path, pictures):
    run, out = tuned("run", **changes), tmp_path / "elsewhere" / "deeper" / "still" / "whole"
    before = [output.text for output in close.load(run)(str(pictures))]
    assert cli("merge", run, out).out.strip() == str(out)
    shutil.rmtree(model_place)
    assert [output.text for output in close.load(out)(str(pictures))] == before
    assert json.loads(cli("info", out, "--json").out)["language_model_is"] == "in this folder"
    assert "nothing to merge" in told("merge", out, tmp_path / "again")
    assert "is there already" in told("merge", run, out)


def test_a_language_model_that_is_gone_or_another_is_told(tuned, model_place, tmp_path, told, zoo, pictures):
    run = tuned("run", tune="none")
    before = close.load(run)(pictures / "p00.png").text
    moved = model_place.rename(tmp_path / "moved")
    for verb in (("info", run), ("caption", run, pictures / "p00.png"), ("merge", run, tmp_path / "out")):
        message = told(*verb)
        assert str(run) in message
        assert "t5" in message
        assert "--language-model" in message
    elsewhere = close.load(run, language_model=str(moved))
    assert elsewhere(pictures / "p00.png").text == before
    assert pickle.loads(pickle.dumps(elsewhere))(pictures / "p00.png").text == before
    # another process takes the device that was asked for, or else what its own machine has
    devices = [close.load(run, language_model=str(moved), device=device).__reduce__()[0] for device in (None, "cpu")]
    assert [again.keywords["device"] for again in devices] == [None, "cpu"]
    # in the numbers that this one came to, whatever `auto` comes to there
    halves = close.load(run, language_model=str(moved), precision="bf16")
    halves.precision = "auto"
    there = pickle.loads(pickle.dumps(halves))
    assert (there.precision, there.model.prefix.weight.dtype) == ("auto", torch.bfloat16)
    assert there(pictures / "p00.png").text == halves(pictures / "p00.png").text
    assert close.load(merge(run, tmp_path / "out", language_model=str(moved)))(pictures / "p00.png").text == before
    with pytest.raises(RecipeError, match="holds its whole language model"):
        close.load(tmp_path / "out", language_model=str(moved))
    tiny.t5_dir(model_place, seed=7)
    assert "is not what is at" in told("info", run)
    assert "is not what is at" in told("merge", run, tmp_path / "b", "--language-model", zoo("flan_t5_dir"))


def test_a_run_and_its_language_model_move_together(tuned, model_place, tmp_path):
    run = tuned("run", tune="none")
    shutil.copytree(tmp_path / "models", tmp_path / "new" / "models")
    moved = shutil.copytree(run, tmp_path / "new" / "runs" / "run")
    shutil.rmtree(model_place)
    assert close.load(moved)


@pytest.mark.parametrize(
    ("changes", "learns"), [*zip([*TUNES, {}], [False, True, True], strict=True)], ids=[*NAMES, "full"]
)
def test_only_a_frozen_language_model_is_without_dropout(tuned, changes, learns):
    heard = Heard()
    tuned("run", heard, **changes)
    assert heard.training == [True, True, learns]


class Stop(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Ends training after a step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("changes", TUNES, ids=NAMES)
def test_goes_on_to_the_same_bits(recipe, captions, tmp_path, changes):
    options = FAST | {"epochs": 3, "metric_for_best": "rouge_l"}
    made = recipe(options, data={"train": str(captions), "val": str(captions)}, **changes)
    whole = train(made, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(made, tmp_path / "run", callbacks=[Stop()])
    sizes = [file.stat().st_size for file in (tmp_path / "run" / "checkpoints").rglob("*model.safetensors")]
    assert sizes
    assert (
        max(sizes) <= (whole / "model.safetensors").stat().st_size + 4096
    )  # checkpoints hold no language model either
    run = train(made, tmp_path / "run", resume=True)
    for name in ("model.safetensors", "config.json", "run.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("kind", ["t5_still_dir", "gpt2_dir"])
@pytest.mark.parametrize("changes", [*TUNES, {}], ids=[*NAMES, "full"])
def test_checkpointing_of_layers_changes_memory_alone(recipe, zoo, tmp_path, monkeypatch, changes, kind):
    from transformers import modeling_utils

    still, calls, plain = zoo(kind), [], modeling_utils.checkpoint

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return plain(*args, **kwargs)

    if "lora" in changes:
        changes = {"lora": {"r": 4}}
    one = train(recipe(FAST, language_model=str(still), **changes), tmp_path / "one")
    monkeypatch.setattr(modeling_utils, "checkpoint", counted)
    made = recipe(FAST | {"gradient_checkpointing": True}, language_model=str(still), **changes)
    two = train(made, tmp_path / "two")
    assert calls
    first, second = (load_file(run / "model.safetensors") for run in (one, two))
    assert all(torch.allclose(first[key], second[key], atol=1e-4) for key in first)


@pytest.mark.parametrize("then", ["full", "lora", "none"])
@pytest.mark.parametrize("first", NAMES)
def test_a_run_that_begins_from_one(tuned, model_place, first, then):
    origin = tuned("first", **dict(zip(NAMES, TUNES, strict=True))[first])
    still = {"tune": then, "init_from": str(origin), "training": {"learning_rate": 1e-30, "max_steps": 1}}
    run = tuned("then", **still)
    tokenizer = AutoTokenizer.from_pretrained(origin)
    one, two = (close.load(place).model for place in (origin, run))
    for key, value in one.state_dict().items():
        assert torch.allclose(value, two.state_dict()[key], atol=1e-6), key
    assert said_by(one, tokenizer) == said_by(two, tokenizer)
    assert (two.config.base is None) == (then == "full")


def test_what_began_at_random_is_kept(recipe, tmp_path):
    run = train(recipe({"max_steps": 1}, language_model="mini", lora={"r": 2}), tmp_path / "run")
    assert close.load(run).model.config.base is None


class TestRecipe:
    """tune and lora, in words."""

    DATA: dict[str, Any] = {"data": {"train": "c.jsonl"}}  # noqa: RUF012

    def test_lora_alone_says_it(self):
        assert checked(self.DATA | {"lora": {"r": 4}}, "r").tune == "lora"
        assert checked(self.DATA | {"tune": "lora"}, "r").tune == "lora"
        assert checked(self.DATA, "r").tune == "full"
        for made in ({"lora": {"r": 4}}, {"tune": "none"}, {"tune": "lora"}, {}):
            recipe = checked(self.DATA | made, "r")
            assert checked(recipe.dump(), "r") == recipe

    @pytest.mark.parametrize("tune", ["full", "none"])
    def test_with_another_it_is_refused(self, tune):
        with pytest.raises(RecipeError, match=f"lora is given, and tune is '{tune}'"):
            checked(self.DATA | {"tune": tune, "lora": {"r": 4}}, "r")

    def test_no_such_way(self):
        with pytest.raises((RecipeError, ValidationError), match="tune"):
            checked(self.DATA | {"tune": "some"}, "r")


class TestTargets:
    """The layers that LoRA adapts."""

    @pytest.mark.parametrize(
        ("name", "ends"),
        [("t5_dir", {"q", "v"}), ("mt5_dir", {"q", "v"}), ("bart_dir", {"q_proj", "v_proj"}), ("gpt2_dir", {"c_attn"})],
    )
    def test_follow_from_the_architecture(self, zoo, name, ends):
        import re

        model = load_language_model(str(zoo(name)))
        pattern = lora_targets(model, None)
        names = [f"language_model.{one}" for one, _ in model.named_modules()]
        assert {one.rpartition(".")[2] for one in names if re.fullmatch(pattern, one)} == ends

    @pytest.mark.parametrize(
        ("targets", "told"),
        [
            ("nowhere", "no such layers; it has q, k, v"),
            (["nowhere"], "no such layers"),
            ("(", "no regular expression"),
            (r"language_model\.shared", "is a Embedding, not a linear layer"),
            (["q", "lm_head"], r"lm_head has the weights of language_model\.shared, which would change with it"),
        ],
        ids=str,
    )
    def test_that_are_nowhere_are_told_before_any_work(self, recipe, tmp_path, monkeypatch, targets, told):
        monkeypatch.setattr("close.training.train.cached_table", lambda *args, **kwargs: pytest.fail("work began"))
        with pytest.raises(RecipeError, match=told) as error:
            train(recipe(lora={"target_modules": targets}), tmp_path / "run")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()

    def test_are_looked_at_once(self, monkeypatch):
        """However many experts a model has."""
        model, asked, get = (
            torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(30))),
            [],
            torch.nn.Module.__getattr__,
        )
        monkeypatch.setattr(torch.nn.Module, "__getattr__", lambda self, name: asked.append(name) or get(self, name))
        lora_targets(model, r"language_model\.\d+")
        assert asked.count("weight") <= len(model) + 1

    def test_may_be_named_by_their_ends(self, recipe, tmp_path):
        run = train(recipe({"max_steps": 1}, lora={"target_modules": ["k", "o"]}), tmp_path / "run")
        ends = {key.split(".")[-2] for key in load_file(run / "model.safetensors") if "lora" in key}
        assert ends == {"k", "o"}


@pytest.mark.parametrize("damage", ["alone", "shape", "layer", "whole", "nan", "base", "fingerprint"])
def test_parts_that_do_not_fit_are_told(tuned, tmp_path, damage):
    copy = shutil.copytree(tuned("run", lora={"r": 2}), tmp_path / "runs" / "copy")
    parts, about = load_file(copy / "model.safetensors"), json.loads((copy / "config.json").read_text())
    name = next(key for key in parts if key.endswith("lora_A"))
    if damage == "alone":
        del parts[name]
    elif damage == "shape":
        parts[name] = parts[name][:, :-1].contiguous()
    elif damage == "layer":
        parts["language_model.nowhere.lora_A"] = parts.pop(name)
    elif damage == "whole":
        parts["language_model.shared.weight"] = torch.zeros(3, 3)
    elif damage == "nan":
        parts[name][0, 0] = float("nan")
    else:
        about["base"] = 7 if damage == "base" else {"reference": about["base"]["reference"]}
    save_file(parts, copy / "model.safetensors", metadata={"format": "pt"})
    (copy / "config.json").write_text(json.dumps(about))
    with pytest.raises(CloseError) as error:
        close.load(copy)
    assert isinstance(error.value, WeightsError)
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_run_of_gpt2_by_lora_is_small(recipe, tmp_path):
    """GPT-2's size in random weights: under 20 MB on disk, and the text is that of training's end."""
    place = tiny.gpt2_dir(tmp_path / "gpt2", n_embd=768, n_layer=18, n_head=12)  # more layers for a smaller vocabulary
    heard = Heard()
    made = recipe({"max_steps": 2}, language_model=str(place), lora={"r": 16}, prefix={"kind": "linear", "length": 4})
    run = train(made, tmp_path / "run", callbacks=[heard])
    size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    assert size < 20e6 - 6.3e6 - 3.6e6  # a prefix of CLIP's 512 dimensions, and GPT-2's own tokenizer
    assert close.load(run).model.num_parameters() > 120e6
    assert said_by(close.load(run).model, AutoTokenizer.from_pretrained(run)) == heard.said
