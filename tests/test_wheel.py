"""What the wheel holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import close

ROOT = Path(close.__file__).parent.parent


ROOMS = ("close", "data_gen", "docs", "experiments", "tests")
QUIET = {"capture_output": True, "text": True, "check": True, "timeout": 300}


def copied(folder: Path, *names: str) -> Path:
    """What a build needs, elsewhere: it leaves traces where it runs."""
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def built(source: Path, kind: str) -> Path:
    """The wheel or the sdist of a folder."""
    pytest.importorskip("build")
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", source / "dist", source]
    subprocess.run(command, **QUIET)
    return next((source / "dist").iterdir())


def test_the_sdist_holds_what_make_needs(tmp_path: Path) -> None:
    """All that is code, tests, records and pages, and what `make demo`, `make test` and `make site` read beside them."""
    files = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "mkdocs.yml")
    source = copied(tmp_path, *ROOMS, *files, "constraints.txt", "lean.txt")
    there = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    with tarfile.open(built(source, "sdist")) as packed:
        held = {Path(*Path(name).parts[1:]) for name in packed.getnames()}
    assert there <= held


def test_the_wheel_alone_runs_the_main_job(tmp_path: Path) -> None:
    """Built, installed where nothing else of the project is, and run on the data that it carries."""
    (tmp_path / "source").mkdir()
    site, source = tmp_path / "site", copied(tmp_path / "source", *ROOMS[:2], "pyproject.toml", "README.md", "LICENSE")
    wheel = built(source, "wheel")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel], **QUIET)
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
