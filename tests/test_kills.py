"""Long jobs killed at a few of the changes that they make to the file system (`experiments/faults/kills.py` tries all)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked")
def test_the_same_command_again_ends_as_if_nothing_had_happened() -> None:
    jobs = "embed text;caption;convert;adapter fit"
    command = [
        sys.executable,
        "-m",
        "experiments.faults.kills",
        "--jobs",
        jobs,
        "--only-kills",
        "--kills",
        "2",
        "--seed",
        "3",
    ]
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=800
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    found = json.loads(ran.stdout)
    assert (found["jobs"], found["killed"], found["wrong"]) == (4, 8, [])
    assert all(job["changes"] > 15 for job in found["by_job"].values())
