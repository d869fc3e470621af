"""The notebooks run from their first cell to their last, and are kept without what they put out."""

from __future__ import annotations

import ast
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def run(path: Path) -> dict[str, Any]:
    """Execute the cells as a notebook does: one after the other, in one namespace, the value of a last expression shown."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cell for cell in cells(path) if cell["cell_type"] == "code"):
        body = ast.parse("".join(cell["source"])).body
        last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"{path.name}[{number}]", "exec"), names)
        if last is not None:
            print(repr(eval(compile(last, f"{path.name}[{number}]", "eval"), names)))
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    with contextlib.chdir(tmp_path):
        names = run(path)
        if path.stem == "new_domain":
            assert names["scores"]["report"] > names["scores"]["general"]
            assert Path("domains.html").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert code
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None]
    assert len({cell["id"] for cell in cells(path)}) == len(cells(path))


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["first_captioner", "gap_of_your_encoder", "new_domain"]
