"""A slip in a path is told before torch and transformers are imported, in the words of what would have opened it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from close.cli.caption import _found
from close.encoders.pictures import open_picture
from close.encoders.sounds import open_sound
from close.errors import CloseError
from close.plugins import load_plugins
from close.runs.length import _items
from close.runs.recipe import load_recipe
from close.tasks import get_task

RUN = """
import json, sys
from close.cli import main
said = []
for line in sys.stdin:
    sys.argv = ["close", *json.loads(line)]
    try:
        main()
    except SystemExit as stop:
        print(stop.code, file=sys.stderr)
    heavy = [name for name in ("torch", "transformers", "scipy") if name in sys.modules]
    assert not heavy, (sys.argv, heavy)
"""

NO_RUN = "nothere: no run there (expected a folder that `close train` made)"
NO_ROWS = "nothere.jsonl: no such file"
NO_TABLE = "nothere: no such embedding table (`close embed` makes one) or .npy file"
NO_PHOTOS = "nothere: no such file or folder; expected photos, or rows with images"

SLIPS = [
    ("train nothere.yaml", "recipe nothere.yaml: no such file"),
    ("train broken.yaml", "broken.yaml: not YAML: line 2, column 1: expected ',' or '}'"),
    ("train key.yaml", "key.yaml: unknown key 'trainin': did you mean 'training'?"),
    ("train good.yaml task=captoin", "unknown task 'captoin': did you mean 'caption'?"),
    ("train good.yaml data.train=nothere.jsonl", NO_ROWS),
    ("train good.yaml data.val=nothere.jsonl", NO_ROWS),
    ("train good.yaml data.embeddings=nothere", "nothere: no embedding table there"),
    ("train good.yaml init_from=nothere", NO_RUN),
    ("train good.yaml language_model=./nothere", "language model './nothere': no such directory"),
    ("train good.yaml --match-length nothere", NO_PHOTOS),
    ("sweep good.yaml --select nothere.jsonl", NO_ROWS),
    ("sweep good.yaml --test nothere.jsonl", NO_ROWS),
    ("sweep good.yaml --text nothere", NO_TABLE),
    ("sweep good.yaml --match-length nothere", NO_PHOTOS),
    ("caption nothere p.png", NO_RUN),
    ("caption run p.png --task vqa", "unknown task of this run 'vqa': known: caption"),
    (
        "caption run nothere.jpg no.PNG",
        "2 of 2 items could not be read: image nothere.jpg: no such file; image no.PNG: ",
    ),
    ("caption run nothere.wav", "1 of 1 items could not be read: recording nothere.wav: no such file"),
    ("caption run --vectors nothere", NO_TABLE),
    ("evaluate nothere rows.jsonl", NO_RUN),
    ("evaluate run nothere.jsonl", NO_ROWS),
    ("evaluate run rows.jsonl --vectors nothere", NO_TABLE),
    ("calibrate nothere rows.jsonl", NO_RUN),
    ("match-length nothere photos", NO_RUN),
    ("match-length run nothere", NO_PHOTOS),
    ("merge nothere out", NO_RUN),
    ("export nothere out", NO_RUN),
    ("publish nothere me/birds", NO_RUN),
    ("serve run nothere --port 0", NO_RUN),
    ("embed text nothere.jsonl --out t", NO_ROWS),
    ("embed images nothere --out t", "nothere: no such file or folder"),
    ("embed vectors nothere rows.jsonl --encoder e --out t", NO_TABLE),
    ("gap", "nothing to measure: give --text and --image, or --compare NAME=TEXT,IMAGE"),
    ("gap --text nothere --image nothere", NO_TABLE),
    ("gap --compare a=nothere,b", NO_TABLE),
    ("recommend --text nothere", NO_TABLE),
    ("recommend --text rows.jsonl --image nothere.jsonl", NO_ROWS),
    ("adapter fit mean_shift --text nothere --out a", NO_TABLE),
    ("classify nothere", "nothere: no such file"),
    ("retrieve nothere", "nothere: no such file"),
]


def run_in(folder: Path, **more: object) -> Path:
    """What is looked at of a finished run."""
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text(json.dumps({"tasks": ["caption"], **more}))
    for name in ("config", "generation_config", "tokenizer_config"):
        (folder / "run" / f"{name}.json").write_text("{}")
    return folder / "run"


def test_slips_are_told_without_torch(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"source": "a cat"}\n')
    (tmp_path / "good.yaml").write_text("data: {train: rows.jsonl}\n")
    (tmp_path / "broken.yaml").write_text("data: {train: rows.jsonl\n")
    (tmp_path / "key.yaml").write_text("data: {train: rows.jsonl}\ntrainin: {epochs: 1}\n")
    run_in(tmp_path)
    own = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    asked = "".join(json.dumps(command.split()) + "\n" for command, _ in SLIPS)
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=asked, env=own, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[1::2] == ["1"] * len(SLIPS), done.stderr
    for (command, words), line in zip(SLIPS, said[::2], strict=True):
        assert line.startswith(f"error: {words}") or f": {words}" in line, (command, line)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "broken.yaml",
        "good.yaml",
        "key.yaml",
        "rows.jsonl",
        "run",
    ]


def test_what_reads_them_says_the_same(tmp_path: Path) -> None:
    for read, words in (
        (lambda: open_picture("no.png"), "image no.png: no such file"),
        (lambda: open_picture(tmp_path), f"image {tmp_path}: no such file (it is a folder, a pipe or a device)"),
        (lambda: open_sound("no.wav", 8000), "recording no.wav: no such file"),
        (lambda: _items("nothere", get_task("caption"), [".png"]), NO_PHOTOS),
    ):
        with pytest.raises(CloseError) as told:
            read()
        assert str(told.value) == words


def test_a_recipe_is_shown_before_its_parts_are_checked(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {train: rows.jsonl}\nadapter: gausian\n")
    seen = []
    with pytest.raises(CloseError, match="unknown adapter 'gausian'"):
        load_recipe(recipe, look=seen.append)
    assert seen[0].data.train == tmp_path / "rows.jsonl"


def test_items_of_a_run_of_own_parts_need_be_no_files(tmp_path: Path) -> None:
    (tmp_path / "parts_of_items.py").touch()
    load_plugins([str(tmp_path / "parts_of_items.py")])
    run = run_in(tmp_path, plugins=["../parts_of_items.py"])
    assert _found(run, None, None, [Path("key-0001.jpg")]) == (run, "caption")
    (run / "run.json").write_text('{"tasks": ["caption"]}')
    with pytest.raises(CloseError, match=r"1 of 1 items could not be read: image key-0001\.jpg: no such file"):
        _found(run, None, None, [Path("key-0001.jpg")])
