"""Every reader of the product against damaged files: the fuzz tests of `tests/`, with more inputs than CI takes.

    python -m experiments.faults.fuzz [--inputs 3000] [--out FILE] [TESTS …]

Prints how many inputs of each kind were tried, how many were refused in one line, and what was neither read nor refused.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", default=["tests"], help="folders or files of tests; all without")
    parser.add_argument("--inputs", type=int, default=3000, help="inputs of each kind")
    parser.add_argument("--processes", default="2")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        pytest = [
            sys.executable,
            "-m",
            "pytest",
            *options.tests,
            "-k",
            "fuzz",
            "--timeout",
            "0",
            "-n",
            options.processes,
        ]
        env = {**os.environ, "FUZZ_INPUTS": str(options.inputs), "OMP_NUM_THREADS": "1"}
        subprocess.run([*pytest, "--dist", "worksteal", "-q", f"--junitxml={report}"], cwd=ROOT, env=env, check=False)
        found = counts(report)
    shown = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if options.out:
        options.out.write_text(shown, encoding="utf-8")
    print(shown, end="")
    return 1 if found["failed"] else 0


def counts(report: Path) -> dict[str, Any]:
    """Inputs and refusals by test, their sums, and the tests that failed."""
    kinds, failed = {}, []
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}".removeprefix("tests.")
        properties = {node.get("name"): int(node.get("value") or 0) for node in case.iter("property")}
        kinds[name] = {key: properties.get(key, 0) for key in ("inputs", "refused")}
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
    sums = {key: sum(kind[key] for kind in kinds.values()) for key in ("inputs", "refused")}
    return {"kinds": len(kinds), **sums, "failed": failed, "by_kind": dict(sorted(kinds.items()))}


if __name__ == "__main__":
    sys.exit(main())
