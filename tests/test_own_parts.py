"""One file outside the packages adds a part of each kind, as docs/extending.md shows; all are used from the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 210)}


PARTS = {
    "adapters": "dropout",
    "tasks": "title",
    "encoders": "colours",
    "prefixes": "gated",
    "metrics": "words",
    "measures": "spread_gap",
    "formats": "pipes",
    "words": "capitals",
}


def run(*arguments: Any, module: str = "close", code: int = 0) -> str:
    """A command in a process of its own, which knows nothing but what it is told."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The documentation's file, captions and pictures of three colours, and a recipe that names the file."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 9
    (tmp_path / "own_parts.py").write_text("\n".join(blocks[:-1]), encoding="utf-8")
    (tmp_path / "own_verbs.py").write_text(blocks[-1], encoding="utf-8")
    names = list(COLOURS) * 8
    (tmp_path / "lines.pipes").write_text("".join(f"{i}|a {name} thing\n" for i, name in enumerate(names)))
    for name, colour in COLOURS.items():
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{name}.png")
    rows = [{"id": n, "image": f"{n}.png", "source": f"a {n} thing", "references": [f"a {n} thing"]} for n in COLOURS]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(
        "task: title\ndata: {train: captions.jsonl}\nencoder: colours\nadapter: [{dropout: {p: 0.2}}]\n"
        "prefix: {kind: gated, width: 8}\n"
        "training: {epochs: 1, batch_size: 8}\nplugins: [own_parts.py]\n"
    )
    return tmp_path


def test_parts_of_ones_own(place: Path) -> None:
    own = ("--plugin", "own_parts.py")
    run("convert", "pipes", "lines.pipes", "captions.jsonl", *own)
    assert len((place / "captions.jsonl").read_text().splitlines()) == 24
    run("train", "recipe.yaml", "--out", "run")
    about = json.loads((place / "run" / "run.json").read_text())
    assert about["plugins"] == ["../own_parts.py"]
    assert json.loads(run("info", "run", "--json", *own))["prefix"] == {"kind": "gated", "length": 4, "width": 8}
    listed = json.loads(run("list", "--json", *own))
    assert {kind: name for kind, name in PARTS.items() if name in listed[kind]} == PARTS
    assert "own_parts.py, which is not loaded: add --plugin" in run("caption", "run", "red.png", code=1)
    assert json.loads(run("caption", "run", "red.png", "--json", *own))["item"] == "red.png"
    result = json.loads(run("evaluate", "run", "eval.jsonl", "--metric", "words", "--metric", "cider", "--json", *own))
    assert {"words", "cider"} <= set(result["scores"])
    assert "Words a caption" in (place / "run" / "evaluations" / "eval-image" / "report.html").read_text()
    text = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    np.save("t.npy", text)
    np.save("v.npy", text + 0.3)
    found = json.loads(run("gap", "--text", "t.npy", "--image", "v.npy", "--bootstrap", 0, "--json", *own))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (text, text + 0.3)]
    assert found["spread_gap"] == pytest.approx(abs(unit[1].std() - unit[0].std()), abs=1e-6)
    assert "titles" in run("--plugin", "own_verbs.py", "--help", module="data_gen")
    (place / "moved").mkdir()
    shutil.move("run", "moved/run")
    shutil.move("own_parts.py", "moved/own_parts.py")  # not where the run says, and the same file
    moved = run("caption", "moved/run", "red.png", "--json", "--plugin", "moved/own_parts.py")
    assert json.loads(moved)["item"] == "red.png"


def test_an_own_adapter_in_a_sweep(place: Path) -> None:
    run("convert", "pipes", "lines.pipes", "captions.jsonl", "--plugin", "own_parts.py")
    command = (
        "sweep",
        "recipe.yaml",
        "--test",
        "eval.jsonl",
        "--adapter",
        "{dropout: {p: 0.5}}",
        "--seeds",
        1,
        "--no-image",
    )
    summary = json.loads(run(*command, "--out", "sweep", "--json"))
    assert list(summary["arms_scored"]) == ["none", "dropout p 0.5"]


def test_what_is_no_plugin_is_told(place: Path) -> None:
    assert "gone.py: no such file" in run("info", "mini", "--plugin", "gone.py", code=1)
    assert "plugin no_such_module: no such module" in run("info", "mini", "--plugin", "no_such_module", code=1)
