"""The demo: of sounds from text to page, in small; and its processes: a killed one leaves nothing in the way of the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from close.demo import run_demo, show_results
from close.errors import OutputExistsError
from close.io.jobs import exclusively

ENDLESS = "from close.demo import run; run.TEST_SCENES = 8; run.run_demo('demo', scenes=8, epochs=100000)"


def test_trainings_end_with_a_killed_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    lock = tmp_path / "demo" / "runs" / ".none.lock"
    with subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=tmp_path, stderr=subprocess.PIPE) as demo:
        while demo.poll() is None and not lock.is_file():
            time.sleep(0.05)
        assert demo.poll() is None, demo.stderr and demo.stderr.read()
        demo.kill()
    with FileLock(lock):  # for ever held by an endless training
        assert not list(lock.parent.glob("*/run.json"))


def test_two_at_once(tmp_path):
    with exclusively(tmp_path / "demo", "is being made"), pytest.raises(OutputExistsError, match="by another process"):
        run_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("data", ["train-3000-0", "drawn-0-seed-0", "sound-3-seed-0", "drawn-3-seed-1"])
def test_another_demo_is_not_replaced(tmp_path, data):
    (tmp_path / "demo" / "data" / data).mkdir(parents=True)
    with pytest.raises(
        OutputExistsError, match=rf"demo holds another demo \(data of {data}, this is of drawn-\d+-seed-0\)"
    ):
        run_demo(tmp_path / "demo")
    assert [path.name for path in tmp_path.rglob("*")] == ["demo", "data", data]


def test_sounds(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("close.demo.run.TEST_SCENES", 6)
    page = run_demo(tmp_path / "demo", scenes=6, epochs=1, world="sound").read_text(encoding="utf-8")
    assert page.count("<audio") >= 6
    assert "data:audio/" in page
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert capsys.readouterr().out == ""  # where it is asked for, JSON alone
    show_results(results)
    assert "CLOSE + shared, recovered share of (image − none)" in capsys.readouterr().out
    assert (results["world"], set(results["methods"])) == ("sound", {"none", "close", "shared", "image"})
    assert {"cider", "attribute_accuracy"} <= set(results["methods"]["close"])
    assert set(results["recovered_share"]) == {"close", "shared"}
    assert all(page.count(f'<dt class="{method}">') == 6 for method in results["methods"])
    recipe = (tmp_path / "demo" / "runs" / "image" / "recipe.yaml").read_text()
    assert "encoder: mini-sound" in recipe
