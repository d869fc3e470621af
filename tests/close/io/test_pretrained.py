"""Files of strangers: no code of theirs runs, whoever answers "y"."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from close.encoders import load_encoder
from close.errors import CloseError, WeightsError
from close.io.pretrained import load_tokenizer, loading, settings_sum, trusting
from close.model.language_models.loading import count_weights, load_language_model
from close.runs.pipeline import load

CODE = """
from pathlib import Path
from transformers import T5Config, T5ForConditionalGeneration, CLIPConfig, CLIPModel, CLIPImageProcessor, PreTrainedTokenizerFast

Path({marker!r}).touch()


class Config(T5Config):
    model_type = "theirs"


class Model(T5ForConditionalGeneration):
    config_class = Config


class Tokenizer(PreTrainedTokenizerFast):
    pass


class Processor(CLIPImageProcessor):
    pass


def generate(**kwargs):
    raise NotImplementedError
"""


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Written by the code of the models; whoever is asked says yes, and modules are kept where the test can see them."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 99))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "ran"


@pytest.fixture
def theirs(tmp_path: Path, marker: Path) -> Callable[..., Path]:
    """A copy of a model's folder whose files name classes of a Python file beside them."""

    def make(folder: Path, model_type: str | None = "theirs") -> Path:
        copy = shutil.copytree(folder, tmp_path / f"{folder.name}-theirs")
        (copy / "theirs.py").write_text(CODE.format(marker=str(marker)))
        (copy / "custom_generate").mkdir()
        (copy / "custom_generate" / "generate.py").write_text(CODE.format(marker=str(marker)))
        models = ("AutoModel", "AutoModelForSeq2SeqLM", "AutoModelForCausalLM")
        names = {"AutoConfig": "theirs.Config", **dict.fromkeys(models, "theirs.Model")}
        if (copy / "config.json").is_file():
            edit(copy / "config.json", auto_map=names, **({"model_type": model_type} if model_type else {}))
        if (copy / "tokenizer_config.json").is_file():
            tokenizer = {"AutoTokenizer": ["theirs.Tokenizer", "theirs.Tokenizer"]}
            edit(copy / "tokenizer_config.json", auto_map=tokenizer, tokenizer_class="Tokenizer")
        if (copy / "preprocessor_config.json").is_file():
            processor = {"AutoImageProcessor": "theirs.Processor", "AutoFeatureExtractor": "theirs.Processor"}
            edit(copy / "preprocessor_config.json", auto_map=processor, image_processor_type="Processor")
        return copy

    return make


@pytest.mark.parametrize("family", ["hf_clip_dir", "t5_dir"])
@pytest.mark.parametrize("model_type", ["theirs", None])
def test_code_of_a_model_is_never_run(theirs, zoo, marker, family, model_type, told):
    folder = theirs(zoo(family), model_type)
    for load_it in (load_encoder, load_language_model, count_weights, lambda place: load_tokenizer(place, 10)):
        with suppress(CloseError):
            load_it(str(folder))
    assert not marker.exists()
    if model_type:
        with pytest.raises(WeightsError, match="add --trust-remote-code"):
            (load_encoder if "clip" in family else load_language_model)(str(folder))
        assert "add --trust-remote-code" in told("info", folder)
    assert not marker.exists()


def test_code_of_an_open_clip_folder_is_never_run(theirs, tiny_encoder, marker):
    folder = theirs(tiny_encoder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="add --trust-remote-code"):
        load_encoder(str(folder))
    assert not marker.exists()


def test_code_of_a_language_model_inside_an_encoder_is_never_run(theirs, tiny_encoder, tiny_t5, tmp_path, marker):
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": str(theirs(tiny_t5)), "hf_proj_type": "linear"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="add --trust-remote-code"):
        load_encoder(str(folder))
    assert not marker.exists()


def test_code_of_a_run_is_never_run(theirs, run, marker):
    folder = theirs(run, None)
    config = json.loads((folder / "config.json").read_text())
    config["language_model"]["auto_map"] = config["auto_map"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="add --trust-remote-code"):
        load(folder)
    (folder / "tokenizer_config.json").write_bytes((run / "tokenizer_config.json").read_bytes())
    assert load(folder).model.num_parameters()  # all that is left has classes in transformers
    assert not marker.exists()


def test_who_means_it_says_so_on_the_command_line(theirs, tiny_t5, marker, tmp_path, captions, told, tiny_encoder, cli):
    folder = theirs(tiny_t5)
    recipe = tmp_path / "recipe.yaml"
    values = {"data": {"train": str(captions)}, "encoder": str(tiny_encoder), "language_model": str(folder)}
    values |= {"training": {"epochs": 1, "batch_size": 48}}
    recipe.write_text(json.dumps(values))
    assert "add --trust-remote-code" in told("train", recipe, "--out", tmp_path / "run")
    assert not marker.exists()
    for key in ("trust_remote_code", "trust-remote-code"):
        recipe.write_text(json.dumps(values | {key: True}))
        assert "trust" in told("train", recipe, "--out", tmp_path / "run")
    with trusting():
        assert type(load_language_model(str(folder))).__name__ == "Model"
    assert marker.exists()
    with pytest.raises(WeightsError, match="add --trust-remote-code"):
        load_language_model(str(folder))


def test_the_door_is_open_again_afterwards():
    from transformers import dynamic_module_utils as dynamic

    before = dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE
    with pytest.raises(WeightsError, match="y: 1"), loading("x"), loading("y"):
        raise ValueError("1\nand advice")
    assert (dynamic.get_class_in_module, dynamic.TIME_OUT_REMOTE_CODE) == before


def test_a_bug_of_ours_is_told_as_one(run, monkeypatch):
    monkeypatch.setattr("close.model.modeling.planned", None)
    told = r"the run can't be used: TypeError: 'NoneType' .*\(close/model/modeling\.py:\d+; .*a bug of ours"
    with pytest.raises(WeightsError, match=told) as error:
        load(run)
    assert isinstance(error.value.__cause__, TypeError)  # with its traceback


def test_a_run_is_tried_out_without_trying_what_is_fast(run, monkeypatch):
    monkeypatch.setattr("close.fast.search.find.is_on", lambda path: pytest.fail(f"tried {path}"))
    load(run)


def test_settings_of_a_model_are_what_decides_its_vectors(tmp_path):
    def written(name):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name} holds this")
        return settings_sum(tmp_path, "**/*")

    sums = [settings_sum(tmp_path, "**/*")]
    sums += [
        written(name) for name in ("config.json", "1_Pooling/config.json", "merges.txt", "sentencepiece.bpe.model")
    ]
    assert len(set(sums)) == len(sums)
    beside = ("trainer_state.json", "all_results.json", "note.txt", "eval/scores.txt", "checkpoint-500/config.json")
    assert {written(name) for name in beside} == {sums[-1]}
