"""Training in bf16 on the CPU: what is in bf16, and what keeps float32."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from close.model.modeling import CloseModel
from close.training.arguments import training_arguments
from close.training.train import train
from close.training.validation import ValidationRows


def test_validation_speaks_in_bf16_and_measures_in_float32(recipe, captions, tmp_path, monkeypatch):
    speaks, measures = list[bool](), list[bool]()
    says, measured = CloseModel.generate_scored, ValidationRows.measured

    def saying(self: Any, *args: Any, **kwargs: Any) -> Any:
        speaks.append(torch.is_autocast_enabled("cpu"))
        return says(self, *args, **kwargs)

    def measuring(self: Any, *args: Any) -> float:
        measures.append(torch.is_autocast_enabled("cpu"))
        return measured(self, *args)

    monkeypatch.setattr(CloseModel, "generate_scored", saying)
    monkeypatch.setattr(ValidationRows, "measured", measuring)
    data = {"train": str(captions), "val": str(captions)}
    train(recipe({"precision": "bf16", "epochs": 1, "metric_for_best": "rouge_l"}, data=data), tmp_path / "run")
    assert set(speaks) == {True}
    assert measures == [False, False]  # the truth, before all work, and what the model says


@pytest.mark.parametrize(("how", "wanted"), [("recipe", "cpu"), ("accelerate", "cpu"), (None, None)])
def test_auto_asks_the_device_that_is_trained_on(recipe, tmp_path, monkeypatch, how, wanted):
    """Not the accelerator beside it."""
    asked = list[Any]()
    monkeypatch.setattr(
        "close.training.arguments.pick_device", lambda device: asked.append(device) or torch.device("cpu")
    )
    if how == "accelerate":
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    training_arguments(recipe({"use_cpu": True} if how == "recipe" else {}), tmp_path)
    assert asked == [wanted]


class Kept(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """Copies checkpoints, counts the bytes that the language model holds, and may end training after a step."""

    def __init__(self, kept: Path, at: int = 10**9) -> None:
        self.kept, self.at, self.bytes = kept, at, 0

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        weights = dict(model.named_parameters()).items()
        self.bytes = sum(weight.nbytes for name, weight in weights if "language_model." in name)
        if state.global_step == self.at:
            raise KeyboardInterrupt

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        shutil.copytree(args.output_dir, self.kept, dirs_exist_ok=True)


def saved(folder: Path) -> dict[str, bytes]:
    """All files, without times; what the log says stands in the last checkpoint too, whose manifest has the sizes."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("log.jsonl", "manifest.json"))
    times = rb'"[a-z_]*_(runtime|per_second)": [\d.]+'
    return {f"{path.relative_to(folder)}": re.sub(times, b"", path.read_bytes()) for path in files}


@pytest.mark.parametrize("tune", ["none", "lora"])
@pytest.mark.parametrize("family", ["flan_t5_dir", "gpt2_dir"])
def test_frozen_weights_in_bf16_change_no_byte(recipe, zoo, captions, tmp_path, monkeypatch, family, tune):
    """Losses, what validation says, checkpoints and the run; with gradients computed anew, and across a kill."""
    options = {"precision": "bf16", "metric_for_best": "rouge_l", "gradient_checkpointing": True}
    lora = {"lora": {"r": 2, "dropout": 0.1}} if tune == "lora" else {}
    data = {"train": str(captions), "val": str(captions)}
    made = recipe(options, tune=tune, **lora, language_model=str(zoo(family)), data=data)
    run, found = tmp_path / "run", list[Any]()
    for held in (True, False):
        kept = Kept(tmp_path / f"{held}")
        if held:
            with pytest.raises(KeyboardInterrupt):
                train(made, run, callbacks=[Kept(kept.kept, at=4)])
        else:
            monkeypatch.setattr("close.training.trainer.hold_in_bf16", lambda model: None)
        train(made, run, resume=held, callbacks=[kept])
        found.append((kept.bytes, saved(run.rename(kept.kept / "run").parent)))
    (less, one), (more, two) = found
    assert 0 < less < more
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_a_language_model_that_the_run_holds_is_saved_as_it_was_read(recipe, tmp_path):
    """The embedded one lies nowhere that a run could name."""
    options = {"precision": "bf16", "max_steps": 1, "save_strategy": "no"}
    run = train(recipe(options, tune="none", language_model="mini"), tmp_path / "run")
    weights = load_file(run / "model.safetensors").items()
    assert {weight.dtype for name, weight in weights if name.startswith("language_model.")} == {torch.float32}
