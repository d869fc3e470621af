"""`close caption` of a run that learnt several tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

import close
from close.runs.recipe import Recipe
from close.training.train import train


@pytest.fixture(scope="module")
def run(captions, tiny_encoder, zoo, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {"source": text, "context": f"a {text.split()[1]} thing?", "label": "neutral"} for text in tiny.sentences(9)
    ]
    judged = str(tiny.write_jsonl(folder / "entailment.jsonl", rows))
    values = {
        "task": [{"task": "caption", "train": str(captions)}, {"task": "entailment", "train": judged}],
        "encoder": str(tiny_encoder),
        "language_model": str(zoo("t5_pieces_dir")),
        "training": {"max_steps": 2, "batch_size": 8, "save_strategy": "no"},
    }
    return train(Recipe.model_validate(values), folder / "run")


def test_the_task_is_said_or_is_the_first(cli, told, run, pictures, tmp_path, monkeypatch):
    path, context = pictures / "p00.png", ("--context", "a dog?")
    for task, given in (("caption", ()), ("entailment", ("--task", "entailment"))):
        wanted = close.load(run, device="cpu").use_task(task)(path, "a dog?")
        row = json.loads(cli("caption", run, path, *context, *given, "--json").out)
        assert (row["text"], row["score"]) == (wanted.text, pytest.approx(wanted.score, abs=1e-5))
        assert cli("caption", run, path, *context, *given, "--out", tmp_path / f"{task}.jsonl").code == 0
        assert json.loads((tmp_path / f"{task}.jsonl").read_text())["text"] == wanted.text
    assert row["text"] in ("entailment", "neutral", "contradiction")
    monkeypatch.setattr("close.runs.pipeline.load", None)  # which may take minutes
    assert "unknown task of this run 'vqa'" in told("caption", run, path, "--task", "vqa")


def test_a_file_begun_for_one_task_is_not_continued_for_another(cli, told, run, pictures, tmp_path, monkeypatch):
    out = ("--context", "a dog?", "--batch-size", 1, "--out", tmp_path / "out.jsonl")

    def stopped(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("close.io.results.ResultFile.write", stopped)
        assert cli("caption", run, pictures, *out).code == 130
    assert "another job" in told("caption", run, pictures, "--task", "entailment", *out)
    assert cli("caption", run, pictures, "--task", "caption", *out).code == 0  # which it is without


def test_a_file_of_samples_is_continued_with_draws_of_its_own_kind(cli, run, pictures, tmp_path, monkeypatch):
    """What is drawn with a seed was other texts once."""
    begun: list[dict[str, Any]] = []

    def stopped(path: Path, about: dict[str, Any], **_: Any) -> None:
        begun.append(about)
        raise KeyboardInterrupt

    monkeypatch.setattr("close.io.results.ResultFile", stopped)
    for given in ((), ("--sample",)):
        assert cli("caption", run, pictures, "--context", "a dog?", *given, "--out", tmp_path / "o.jsonl").code == 130
    assert [about.get("draws") for about in begun] == [None, 2]
