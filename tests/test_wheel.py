"""What the wheel holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import close

ROOT = Path(close.__file__).parent.parent


def test_the_wheel_alone_runs_the_main_job(tmp_path: Path) -> None:
    """Built, installed where nothing else of the project is, and run on the data that it carries."""
    pytest.importorskip("build")
    source, site = tmp_path / "source", tmp_path / "site"
    for name in ("close", "data_gen"):  # a build leaves traces where it runs
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    quiet = {"capture_output": True, "text": True, "check": True, "timeout": 300}
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source], **quiet
    )
    wheel = next((tmp_path / "dist").glob("*.whl"))
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel], **quiet)
    code = (
        "import close, data_gen, sys; from close.demo import run_demo; "
        "print(close.__file__, data_gen.__file__); run_demo('demo', scenes=30, epochs=1)"
    )
    variables = {"PYTHONPATH": str(site), "CLOSE_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | variables,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].count(str(site)) == 2
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert set(results["methods"]) == {"none", "close", "shared", "image"}
    assert (tmp_path / "demo" / "report.html").stat().st_size > 10_000
