"""docs/promises.md: every promise names tests, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(\S+?\.py)(?:::([\w.]+))?`")


def names_in(path: Path) -> set[str]:
    """Names of a file's tests; those of a class also behind its name."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                node.name,
                *(f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)),
            }
    return found


def test_every_promise_names_a_test() -> None:
    promises = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
    promises = [line for line in promises if not line.startswith("| What ")]
    assert len(promises) > 20
    assert not [line for line in promises if not TEST.search(line)]


def test_the_tests_exist() -> None:
    named = {(file, name) for file, name in TEST.findall(PAGE) if not file.startswith("experiments")}
    assert named
    lost = [file for file, _ in named if not (ROOT / "tests" / file).is_file()]
    assert not lost
    assert not [f"{file}::{name}" for file, name in named if name and name not in names_in(ROOT / "tests" / file)]
