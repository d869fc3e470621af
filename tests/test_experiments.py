"""Experiments that take hours, in small: that they run, go on where they were stopped, and record what they say they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_conclusions(tmp_path):
    script, out = ROOT / "experiments" / "conclusions" / "run.py", tmp_path / "results.json"
    sizes = (
        "--steps",
        "1",
        "--scenes",
        "6",
        "--test-scenes",
        "2",
        "--seeds",
        "0",
        "--settings",
        "as it is",
        "no warm-up",
    )
    command = [sys.executable, script, *sizes, "--work", tmp_path / "work", "--out", out]
    variables = os.environ | {"CLOSE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert len(record["runs"]) == 14
    assert len(record["curves"]["none"]) == 5
    for scores in record["claims"].values():
        assert set(scores) == {"cider", "attribute_accuracy"}
        assert scores["cider"]["settings"] == ["as it is", "no warm-up"]
    assert record["code"]["training"] not in ("", "unknown")
    again = subprocess.run([*command, "--record"], env=variables, capture_output=True, text=True, timeout=600)
    assert again.stdout == done.stdout
    assert json.loads(out.read_text())["runs"] == record["runs"]
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
