import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = [
    "A brown dog runs across the grass of a park.",
    "Two cats sleep on a sofa near the window.",
    "A man rides a horse along the beach.",
    "A red bus waits at a light on a wet street.",
    "A woman cuts a pizza in her kitchen.",
    "Children fly a kite above a green hill.",
    "A train stands at an old station.",
    "A boy throws a ball to his sister.",
    "A boat drifts on the river at sunset.",
    "A cook stirs soup in a large pot.",
    "A girl reads a book under a tree.",
    "Three birds sit on the roof of a house.",
]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples.txt"
    path.write_text("\n".join(EXAMPLES) + "\n")
    return path


@pytest.fixture
def data_gen():
    """Run the command line in a process of its own: (exit code, stdout, stderr)."""

    def run(*arguments, env=None, timeout=200):
        done = subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=timeout, env=environment(env)
        )
        return done.returncode, done.stdout, done.stderr

    return run


def command(*arguments):
    return [sys.executable, "-c", "from data_gen.cli import main; main()", *map(str, arguments)]


def environment(extra=None):
    root = Path(__file__).resolve().parents[2]
    names = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI")}
    return {**names, "PYTHONPATH": str(root), **(extra or {})}


def rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]
