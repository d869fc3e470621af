"""The README's commands, as they stand there: in small sizes, and (slow) in the README's own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mini_server import served

README = Path(__file__).parents[1] / "README.md"
SMALL = [
    ("--count 2000", "--count 30"),
    ("--count 200", "--count 10"),
    ("epochs: 8", "epochs: 1"),
    ("epochs=20", "epochs=1"),
]


def section(title: str, kind: str) -> str:
    """The first block of a kind under a heading."""
    text = README.read_text(encoding="utf-8").split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture(params=["small", pytest.param("whole", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def shell(request, tmp_path, monkeypatch):
    """Runs a block as a shell would, and stops at the first command that fails."""
    for name, value in (("CLOSE_CACHE", str(tmp_path / "cache")), ("PYTHONPATH", str(README.parent))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def sized(text: str) -> str:
        for whole, small in SMALL if request.param == "small" else ():
            text = text.replace(whole, small)
        return text

    def run(block: str) -> None:
        done = subprocess.run(["bash", "-ec", sized(block)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

    Path("recipe.yaml").write_text(sized(section("The same through files and commands", "yaml")))
    run.whole = request.param == "whole"  # type: ignore[attr-defined]
    return run


def test_files_and_commands(shell):
    shell(section("The same through files and commands", "sh"))
    scores = json.loads(Path("scores.json").read_text())
    assert scores["scores"]["n"] == len(list(Path("data/test/images").iterdir()))
    assert scores["scores"]["cider"] >= 80 * shell.whole


@pytest.mark.skipif(not importlib.util.find_spec("fastapi"), reason="the serve extra is not installed")
def test_training_text_from_a_language_model(shell):
    try:
        socket.create_server(("127.0.0.1", 8000)).close()
    except OSError:
        pytest.skip("the port of the README's example is in use")
    first = section("The same through files and commands", "sh").splitlines()[:2]
    shell("\n".join(first))
    start, rest = section("Training text from a language model", "sh").split("\n", 1)
    assert start.startswith("data-gen serve-mini &")
    with served(["data-gen", "serve-mini"], 8000, Path("server.log")):
        shell(rest)
    rows = Path("written.jsonl").read_text().splitlines()
    assert len(rows) == len(set(rows)) >= 30
    assert list(Path("runs/written/evaluations").glob("*/scores.json"))
