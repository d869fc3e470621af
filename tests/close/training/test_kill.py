"""kill −9 of real processes at random moments: going on gives, byte for byte, what was never killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

CLOSE = [sys.executable, "-m", "close"]


def finish(arguments: list[str | Path], place: Path) -> None:
    done = subprocess.run([*CLOSE, *arguments], cwd=place, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def kill_while_working(
    arguments: list[str | Path], place: Path, work: Path, rng: random.Random, longest: float
) -> bool:
    """Start, wait until `work` exists, and kill up to `longest` seconds later; whether the work was still going on."""
    process = subprocess.Popen([*CLOSE, *arguments], cwd=place, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not work.exists():
        time.sleep(0.001)
    time.sleep(rng.random() * longest)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def kill_often(command: list[str | Path], place: Path, work: Path, longest: float, kills: int) -> None:
    """Kill what makes `killed` so many times while it works; what ended before its kill is made anew."""
    rng, hits = random.Random(kills), 0
    for _ in range(20 * kills):
        if kill_while_working([*command, "killed"], place, work, rng, longest):
            hits += 1
        else:
            shutil.rmtree(place / "killed")
        if hits == kills:
            return
    raise AssertionError(f"killed {hits} times of {kills}: it always ended before")


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the log, which holds times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "log.jsonl"
    }


def embedding(place: Path, encoder: Path, kills: int) -> None:
    tiny.write_jsonl(place / "captions.jsonl", [{"source": f"a thing number {i}"} for i in range(30_000)])
    command: list[str | Path] = ["embed", "text", "captions.jsonl", "--encoder", encoder, "--out"]
    kill_often(command, place, place / "killed.partial", 0.4, kills)
    finish([*command, "killed"], place)
    finish([*command, "whole"], place)
    assert content(place / "killed") == content(place / "whole")


def training(place: Path, encoder: Path, language_model: Path, kills: int) -> None:
    tiny.write_jsonl(place / "captions.jsonl", tiny.caption_rows(48))
    (place / "recipe.yaml").write_text(
        f"data: {{train: captions.jsonl}}\nencoder: {encoder}\nlanguage_model: {language_model}\n"
        "training: {epochs: 8, batch_size: 8, learning_rate: 1.0e-2, save_strategy: steps, save_steps: 3}\n"
    )
    command: list[str | Path] = ["train", "recipe.yaml", "--resume", "--out"]
    kill_often(command, place, place / "killed" / "checkpoints" / "started.json", 0.6, kills)
    finish([*command, "killed"], place)
    finish([*command, "whole"], place)
    assert content(place / "killed") == content(place / "whole")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.getcwd())


def test_embedding_goes_on(tmp_path, tiny_encoder):
    embedding(tmp_path, tiny_encoder, 2)


def test_training_goes_on(tmp_path, tiny_encoder, tiny_t5):
    training(tmp_path, tiny_encoder, tiny_t5, 2)


@pytest.mark.slow
def test_embedding_goes_on_after_many_kills(tmp_path, tiny_encoder):
    embedding(tmp_path, tiny_encoder, 20)


@pytest.mark.slow
def test_training_goes_on_after_many_kills(tmp_path, tiny_encoder, tiny_t5):
    training(tmp_path, tiny_encoder, tiny_t5, 20)
