"""Training in bf16 on the CPU: what is in bf16, and what keeps float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

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
