"""What a process started ends when that process is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from close.io.children import ended, start

SLEEPER = "import os, time\nprint('works', os.read(0, 1), flush=True)\ntime.sleep(3600)\n"
PARENT = """
import os, sys, time
from close.io.children import start
start("sleeper", ["an argument"], log=sys.stdout, environment=os.environ)
time.sleep(3600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.getcwd(), str(tmp_path)]))
    return tmp_path


def test_a_killed_process_leaves_none(place):
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline().split() == [b"works", b"b''"]  # the child's, which finds stdin empty
        parent.kill()
        assert parent.stdout.read() == b""  # both ends of that pipe are closed: neither process is there


def test_none_outlives_its_block(place):
    read, write = os.pipe()
    with os.fdopen(write, "wb") as log:
        children = {"one": start("sleeper", [], log=log, environment=os.environ)}
    with os.fdopen(read, "rb") as said, ended(children):
        assert said.readline().startswith(b"works")
    assert children["one"].returncode


def test_a_module_runs_as_by_its_name(place):
    (place / "shown.py").write_text("import sys\nprint(__name__, sys.argv[1:])\nsys.exit(7)\n")
    with (place / "log").open("wb") as log:
        child = start("shown", ["a", "--b"], log=log, environment=os.environ)
    assert child.wait(timeout=300) == 7
    assert (place / "log").read_text() == "__main__ ['a', '--b']\n"
