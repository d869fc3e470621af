"""Runs the core tests with the oldest versions that pyproject.toml allows, and records what came of it.

    python experiments/house/oldest.py [--work DIR] [--out FILE] [--python PYTHON] [--newest]

A new environment is made in DIR (some gigabytes) by uv, each direct dependency at its floor; with --newest as constraints.txt
pins them, to try another Python.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CORE = (
    "adapters data encoders evaluation fast gap io/test_files.py io/test_results.py mini model runs/test_examples.py "
    "runs/test_pipeline.py runs/test_recipe.py runs/test_training.py study vectors cli/test_cli.py"
)
DATA_GEN = ("tests/data_gen/run", "tests/data_gen/test_dg_cli.py", "tests/data_gen/test_dg_plugins.py")


def call(*command: Any, **settings: Any) -> str:
    """A command that must succeed; what it printed."""
    return subprocess.run([*map(str, command)], cwd=ROOT, check=True, capture_output=True, text=True, **settings).stdout


def environment(work: Path, python: str, *, newest: bool) -> Path:
    """The Python of a new environment with the versions to try."""
    call(python, "-m", "venv", work / "uv")
    call(work / "uv" / "bin" / "python", "-m", "pip", "install", "--quiet", "uv")
    uv, found = work / "uv" / "bin" / "uv", work / "env" / "bin" / "python"
    call(uv, "venv", "--python", python, "--clear", work / "env")
    install = (uv, "pip", "install", "--quiet", "--python", found)
    if newest:
        call(*install, "-c", "constraints.txt", ".[dev]")
    else:
        wanted = work / "oldest.txt"
        call(uv, "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--python", found, "--extra", "dev",
             "-o", wanted, "pyproject.toml")  # fmt: skip
        call(*install, "-r", wanted)
    call(*install, "setuptools", "wheel")
    return found


def versions(python: Path) -> dict[str, str]:
    """What is installed of what pyproject.toml names."""
    named = set(
        re.findall(r'^  "([A-Za-z0-9_.-]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    code = "import json; from importlib.metadata import distributions as d; print(json.dumps({x.name: x.version for x in d()}))"
    have = json.loads(call(python, "-c", code))
    plain = {re.sub(r"[-_.]+", "-", name).lower() for name in named}
    return {name: version for name, version in sorted(have.items()) if re.sub(r"[-_.]+", "-", name).lower() in plain}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--newest", action="store_true")
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="close-oldest-"))
    python = environment(work.resolve(), given.python, newest=given.newest)
    tests = [*(f"tests/close/{part}" for part in CORE.split()), *DATA_GEN]
    start = time.monotonic()
    done = subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "worksteal", *tests],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr.strip()[-300:]
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}
    if not counts:
        sys.exit(f"no test ran: {done.stderr.strip() or last}")
    record = {
        "python": call(python, "--version").split()[1],
        "resolution": "constraints.txt" if given.newest else "lowest-direct",
        "versions": versions(python),
        "tests": tests,
        **counts,
        "failed_tests": re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE),
        "seconds": round(time.monotonic() - start),
    }
    given.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(
        json.dumps(
            {key: record.get(key) for key in ("python", "passed", "failed", "skipped", "failed_tests", "seconds")}
        )
    )


if __name__ == "__main__":
    main()
