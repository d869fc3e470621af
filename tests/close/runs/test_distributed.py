"""Training in two processes: the same run as in one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file

from close.runs.examples import LengthSampler
from close.runs.recipe import load_recipe
from close.runs.train import train

ROWS = 45


@pytest.fixture(scope="module")
def recipe(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of three steps of 16, the last of them cut short by the data; nothing random but noise and order."""
    folder = tmp_path_factory.mktemp("distributed")
    values = {
        "data": {"train": str(tiny.write_jsonl(folder / "captions.jsonl", tiny.caption_rows(ROWS)))},
        "encoder": str(tiny_encoder),
        "language_model": str(tiny.t5_dir(folder / "t5", dropout_rate=0.0)),
        "training": {
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_strategy": "steps",
            "save_steps": 1,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def torchrun(recipe: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """`close train` in two processes of half the batch each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=127.0.0.1:0", "-m", "close", "train", str(recipe), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}  # whatever the network
    return subprocess.Popen(
        [*command, "training.batch_size=8", *more],
        env=environment,
        text=True,
        stdout=-1,
        stderr=-1,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    try:
        out, err = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"still at it after three minutes: {err[-3000:]}") from None
    assert process.returncode == 0, err[-3000:]
    return out


def losses(run: Path) -> list[float]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def assert_same(one: Path, two: Path) -> None:
    assert np.allclose(losses(one), losses(two), atol=1e-4)
    first, second = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    for name, weight in first.items():
        assert torch.allclose(weight, second[name], atol=2e-4), name


def test_two_processes_equal_one(recipe, tmp_path):
    process = torchrun(recipe, tmp_path / "two")
    train(load_recipe(recipe), tmp_path / "one")
    said = finished(process)
    assert said.splitlines() == [str(tmp_path / "two")]
    assert len(losses(tmp_path / "one")) == 6
    assert_same(tmp_path / "one", tmp_path / "two")
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}


def test_goes_on_after_one_process_was_killed(recipe, tmp_path):
    more = ["training.epochs=12"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = torchrun(recipe, cut, *more)
    while not list(cut.glob("checkpoints/checkpoint-*/manifest.json")):
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    os.kill(next(workers(process.pid)), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert not (cut / "run.json").exists()
    finished(torchrun(recipe, cut, "--resume", *more))
    finished(torchrun(recipe, whole, *more))
    assert_same(whole, cut)


def workers(pid: int) -> Iterator[int]:
    """Processes that torchrun has started."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)


class Lengths:
    """As much of a dataset as a sampler reads."""

    def __init__(self, count: int) -> None:
        self.lengths: Any = np.arange(count) % 7

    def __len__(self) -> int:
        return len(self.lengths)


@pytest.mark.parametrize("count", [1, 15, 16, 45])
def test_every_row_counts_once_an_epoch(count):
    sampler = LengthSampler(Lengths(count), 16, seed=0, fill=True)  # type: ignore[arg-type]
    for epoch in range(3):
        sampler.pin(epoch)
        order = list(sampler)
        assert len(order) == len(sampler)
        assert len(order) % 16 == 0
        assert sorted(index for index in order if index >= 0) == list(range(count))
