"""Training in two processes: the same run as in one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file

from close.errors import MissingError
from close.runs.recipe import Recipe, load_recipe
from close.training.examples import LengthSampler
from close.training.processes import ended_together
from close.training.train import train

ROWS = 45
pytestmark = pytest.mark.timeout(1200)  # each of some waits for several processes, on a busy machine


@pytest.fixture(scope="module")
def recipe(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of three steps of 16, the last of them cut short by the data; nothing random but noise and order."""
    folder = tmp_path_factory.mktemp("distributed")
    rows = tiny.caption_rows(ROWS)
    for row, other in zip(rows[::5], rows[1::5], strict=True):
        row |= {"source": [row["source"], other["source"]], "target": row["source"]}
    values = {
        "data": {"train": str(tiny.write_jsonl(folder / "captions.jsonl", rows))},
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


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def torchrun(*command: Any, **variables: str) -> subprocess.Popen[str]:
    """A module of Python and its arguments in two processes."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} | variables  # whatever the network
    return subprocess.Popen(
        [*launch, "--rdzv-endpoint=127.0.0.1:0", *map(str, command)],
        env=environment,
        text=True,
        stdout=-1,
        stderr=-1,
    )


def training(recipe: Path, out: Path, *more: Any, **variables: str) -> subprocess.Popen[str]:
    """`close train` in two processes of half the batch each."""
    return torchrun("-m", "close", "train", recipe, "--out", out, "training.batch_size=8", *more, **variables)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=500)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends its processes, which are no longer in its group
        out, err = process.communicate()
        raise AssertionError(f"still at it after eight minutes: {err[-3000:]}") from None
    assert "terminate called" not in err, err
    return process.returncode, out, err


def finished(process: subprocess.Popen[str]) -> str:
    code, out, err = ended(process)
    assert code == 0, err[-3000:]
    return out


def losses(run: Path) -> list[float]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def mean_loss(run: Path) -> float:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return next(entry["train_loss"] for entry in entries if "train_loss" in entry)


def assert_same(one: Path, two: Path, atol: float = 2e-4) -> None:
    assert np.allclose(losses(one), losses(two), atol=1e-4)
    assert abs(mean_loss(one) - mean_loss(two)) < 1e-4
    first, second = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    for name, weight in first.items():
        assert torch.allclose(weight, second[name], atol=atol), name


def with_training(recipe: Recipe, options: dict[str, Any]) -> Recipe:
    values = recipe.dump()
    return Recipe.model_validate(values | {"training": values["training"] | options})


@pytest.mark.parametrize(
    ("tune", "family"), [("full", None), ("full", "gpt2_still_dir"), ("lora", "gpt2_still_dir"), ("none", None)]
)
def test_two_processes_equal_one(recipe, zoo, tmp_path, tune, family):
    changes = [f"tune={tune}", *([f"language_model={zoo(family)}", "several=set"] if family else [])]
    changes += ["retrieve={k: 3, noise: 0.5, noisy: true}"] if tune == "none" else []
    process = training(recipe, tmp_path / "two", *changes)
    train(load_recipe(recipe, changes), tmp_path / "one")
    said = finished(process)
    assert said.splitlines() == [str(tmp_path / "two")]
    assert len(losses(tmp_path / "one")) == 6
    assert_same(tmp_path / "one", tmp_path / "two", 2e-4 if tune == "full" else 2e-3)
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}


KILLED = """
import os, signal
from close.training.checkpoints import Manifests

written = Manifests.on_save

def on_save(self, args, state, control, **kwargs):
    written(self, args, state, control, **kwargs)
    if state.global_step == 4 and os.environ["RANK"] == os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)

Manifests.on_save = on_save
"""


def test_goes_on_after_one_process_was_killed(recipe, tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    longer = ["training.epochs=3", "training.logging_steps=5"]  # the last four steps are in no loss but the mean
    options = [*longer, "--plugin", tmp_path / "killed.py"]
    process = training(recipe, tmp_path / "cut", *options, KILL="1")
    train(load_recipe(recipe, longer), tmp_path / "whole")
    code, _, err = ended(process)
    assert code != 0
    assert "Signal 9" in err
    assert not (tmp_path / "cut" / "run.json").exists()
    finished(training(recipe, tmp_path / "cut", "--resume", *options))
    assert_same(tmp_path / "whole", tmp_path / "cut")


TWICE = """
import atexit, json, os, sys, torch
from pathlib import Path
from transformers import TrainerCallback

recipe, one, two, val = sys.argv[1:]
mark = Path(f"{two}-{os.environ['RANK']}")
atexit.register(lambda: torch.distributed.is_initialized() or mark.write_text("closed"))  # after what is registered later

from close.errors import MissingError
from close.runs.recipe import Recipe, load_recipe
from close.training.train import train

opened = torch.nn.parallel.DistributedDataParallel.__init__

def opening(self, *args, **kwargs):
    assert kwargs["broadcast_buffers"] is False  # at every step; an adapter's may be a whole memory
    opened(self, *args, **kwargs)

torch.nn.parallel.DistributedDataParallel.__init__ = opening

class Heard(TrainerCallback):
    scores = []

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.scores.append(metrics["eval_rouge_l"])

scored = ["training.metric_for_best=rouge_l", f"data.val={val}", "training.eval_on_start=true", "training.save_total_limit=1"]
for out in (one, two):
    train(load_recipe(recipe, ["training.batch_size=8", *scored]), out, callbacks=[Heard()])
Path(f"{mark}.json").write_text(json.dumps(Heard.scores))
try:
    train(load_recipe(recipe, ["data.train=gone.jsonl"]), two + "-gone")
except MissingError:
    sys.exit(0)
sys.exit("not told")
"""


def test_a_process_trains_twice_and_closes_its_group(recipe, tmp_path):
    (tmp_path / "twice.py").write_text(TWICE)
    val = load_recipe(recipe).data.train
    process = torchrun(tmp_path / "twice.py", recipe, tmp_path / "one", tmp_path / "two", val)
    scored = {"metric_for_best": "rouge_l", "eval_on_start": True, "max_steps": 1}
    train(with_training(load_recipe(recipe, [f"data.val={val}"]), scored), tmp_path / "alone")
    finished(process)
    assert [(tmp_path / f"two-{rank}").read_text() for rank in (0, 1)] == ["closed", "closed"]
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()
    first, second = (json.loads((tmp_path / f"two-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second  # both processes know the same scores, and hold the same best checkpoint
    assert len(first) == 14
    best = json.loads((tmp_path / "two" / "run.json").read_text())["best"]
    alone = json.loads((tmp_path / "alone" / "run.json").read_text())["best"]
    assert best["score"] == max(first)
    assert best["examples"] == alone["examples"]
    first, second = (one["history"][0]["eval_rouge_l"] for one in (best, alone))
    assert abs(first - second) < 5  # what has learnt nothing yet says the same, but for a tie of two tokens


WAITS = """
import time, torch
from datetime import timedelta

torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=2))
opened, groups = torch.distributed.new_group, []
torch.distributed.new_group = lambda **given: (groups.append(1), opened(**{"timeout": timedelta(seconds=2)} | given))[1]

from close.training.processes import ended_together, first_alone

first, began, inside = torch.distributed.get_rank() == 0, time.monotonic(), None
with ended_together():
    with first_alone():
        if first:
            time.sleep(4)
        inside = time.monotonic() - began
    if first:
        time.sleep(4)
assert inside >= 4 and time.monotonic() - began >= 8
assert len(groups) == 1
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_processes_wait_for_the_first_longer_than_for_one_that_hangs(tmp_path):
    (tmp_path / "waits.py").write_text(WAITS)
    finished(torchrun(tmp_path / "waits.py"))


DIES = """
import os, sys, time, torch

rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")

from close.training.processes import first_alone

if sys.argv[1] == "later":
    with first_alone():
        pass
torch.distributed.barrier()
if rank == 1:
    os._exit(0)
began = time.monotonic()
try:
    with first_alone():
        pass
except RuntimeError:
    print(f"told after {time.monotonic() - began:.0f}")
    os._exit(0)
"""


@pytest.mark.parametrize("when", ["before any has waited", "later"])
def test_a_process_that_is_gone_is_not_waited_for(tmp_path, when):
    """Started by hand: torchrun of one machine ends the others by itself."""
    (tmp_path / "dies.py").write_text(DIES)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    both = [
        subprocess.Popen(
            [sys.executable, tmp_path / "dies.py", when],
            env=os.environ | place | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = both[0].communicate(timeout=120)[0]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert int(said.split()[-1]) < 60


@pytest.mark.parametrize(("backend", "fails", "closed"), [("gloo", True, 1), ("nccl", True, 0), ("nccl", False, 1)])
def test_what_waits_for_others_is_not_closed_after_an_error(tmp_path, monkeypatch, backend, fails, closed):
    at_exit = list[Any]()
    monkeypatch.setattr("close.training.processes.atexit.register", at_exit.append)
    try:
        with suppress(MissingError), ended_together():
            store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
            torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
            monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
            if fails:
                raise MissingError("gone")
    finally:
        torch.distributed.destroy_process_group()
    assert len(at_exit) == closed


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
