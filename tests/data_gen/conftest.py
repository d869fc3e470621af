import subprocess

import pytest
from dg_tools import EXAMPLES, command, environment


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

    def run(*arguments, env=None, timeout=300):
        done = subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=timeout, env=environment(env)
        )
        return done.returncode, done.stdout, done.stderr

    return run
