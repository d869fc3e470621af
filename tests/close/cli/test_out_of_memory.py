"""Memory that is full, an accelerator's or the processor's, is one line that says what takes less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import typer
import yaml

from close.cli import commands
from close.cli.options import Verb
from close.errors import RecipeError
from close.model.modeling import CloseModel
from close.training.train import train

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore"),
    RuntimeError("MPS backend out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError("Unable to allocate 7 GiB"),
]


def failing(error: Exception) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_verb_tells_it(told, captions, tmp_path, monkeypatch, error):
    monkeypatch.setattr("close.vectors.build.embed_texts", failing(error))
    said = told("embed", "text", captions, "--out", tmp_path / "table", "--encoder", "mini")
    first = str(error).partition("\n")[0]
    assert said.startswith(f"error: no memory left ({first}); give a smaller --batch-size")


@pytest.mark.parametrize("error", FULL[:1], ids=str)
def test_a_verb_without_the_options_tells_other_ways(told, captions, tiny_t5, tmp_path, monkeypatch, error):
    monkeypatch.setattr("close.training.beginning.load_encoder", failing(error))
    values = {"data": {"train": str(captions)}, "encoder": "mini", "language_model": str(tiny_t5)}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    said = told("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run")
    assert "data.embeddings names the table), or lower training.batch_size" in said


def test_options_that_take_less_are_the_verbs_own():
    def verbs(command: Any) -> Iterator[Verb]:
        for one in command.commands.values():
            yield from verbs(one) if hasattr(one, "commands") else [one]

    for one in verbs(typer.main.get_command(commands())):
        named = set(re.findall("--[a-z-]+", "" if one.less else one._takes_less()))
        assert named <= {name for parameter in one.params for name in parameter.opts}, one.name


def test_another_fault_stays_one(cli, captions, tmp_path, monkeypatch):
    monkeypatch.setattr("close.vectors.build.embed_texts", failing(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        cli("embed", "text", captions, "--out", tmp_path / "table", "--encoder", "mini")


@pytest.mark.parametrize("error", FULL[:1], ids=str)
def test_training_names_the_settings_in_force(recipe, tmp_path, monkeypatch, error):
    monkeypatch.setattr(CloseModel, "forward", failing(error))
    with pytest.raises(RecipeError) as told:
        train(recipe({"gradient_accumulation_steps": 2}), tmp_path / "run")
    said = str(told.value)
    assert said.startswith("training: no memory left (CUDA out of memory. Tried to allocate 20.00 GiB.); ")
    assert "training.batch_size (16 now)" in said
    assert "training.gradient_accumulation_steps (2 now)" in said
    # a sweep has no such option
    assert said.endswith("start anew (close train with --overwrite; a sweep does so by itself)")
