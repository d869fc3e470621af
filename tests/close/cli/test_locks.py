"""What one process makes, another does not: evaluations, sweeps and measures take the lock that all long jobs take."""

from __future__ import annotations

import os

import numpy as np
import pytest

from close.errors import OutputExistsError
from close.io.jobs import exclusively
from close.runs.evaluate import evaluate
from close.study.arms import Arm
from close.study.sweep import sweep

BUSY = "by another process right now"


def test_an_evaluation(run, captions):
    place = run / "evaluations" / "captions-text"
    with exclusively(place, "is being made"), pytest.raises(OutputExistsError, match=BUSY):
        evaluate(run, captions, modality="text", tokenizer="python")
    assert not place.exists()
    evaluate(run, captions, modality="text", tokenizer="python")
    assert os.listdir(place.parent) == [place.name]
    whole = sorted(os.listdir(place))
    left = (
        place / f".scores.json.0bbfd16a-{os.getpid()}.tmp"
    )  # of one that was killed, whose number is another's by now
    left.touch()
    evaluate(run, captions, modality="text", tokenizer="python")
    assert sorted(os.listdir(place)) == whole


def test_a_sweep(recipe, captions, tmp_path):
    arms, out = [Arm("none", {"adapter": "none"})], tmp_path / "new" / "sweep"
    with exclusively(out, "is being made"), pytest.raises(OutputExistsError, match=BUSY):
        sweep(recipe(), arms, [0], None, out, select=captions)
    assert os.listdir(tmp_path) == []


def test_measures(told, cli, tmp_path):
    for name in ("text", "image"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(len(name)).normal(size=(40, 4)))
    command = ["gap", "--text", tmp_path / "text.npy", "--image", tmp_path / "image.npy", "--bootstrap", "0"]
    for option, name in (("--out", "gap.json"), ("--html", "gap.html"), ("--plots", "plots")):
        with exclusively(tmp_path / name, "is being written"):
            assert BUSY in told(*command, option, tmp_path / name)
    assert cli(*command, "--out", tmp_path / "gap.json").code == 0
    assert sorted(os.listdir(tmp_path)) == ["gap.json", "image.npy", "text.npy"]
