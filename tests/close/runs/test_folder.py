"""A run's folder as it begins: killed at any change of the file system, nothing is lost and nothing is overwritten unasked."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from killing import killed

from close.errors import OutputExistsError
from close.io.jobs import exclusively
from close.runs.folder import begin_run, is_finished


def begin(folder: Path, recipe: Any, **options: bool) -> bool:
    """As `train` does; whether there is work to do."""
    with exclusively(folder, "is being trained"):
        if is_finished(folder, recipe, resume=options["resume"], overwrite=options["overwrite"]):
            return False
        begin_run(folder, recipe, encoder="e", data={"c.jsonl": "s"}, resume=options["resume"])
    return True


def finished_run(folder: Path, recipe: Any) -> None:
    begin(folder, recipe, resume=False, overwrite=False)
    (folder / "evaluations").mkdir()
    for name in ("run.json", "model.safetensors", "evaluations/scores.json"):
        (folder / name).write_text("{}")
    shutil.rmtree(folder / "checkpoints")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("there", [None, "another", "unfinished"])
def test_begins_again_wherever_it_was_killed(recipe, tmp_path, monkeypatch, there):
    options = {"resume": there is None, "overwrite": there is not None}
    number, ended = 0, False
    while not ended:
        number += 1
        place = tmp_path / str(number)
        folder = place / "runs" / "run"
        if there == "another":
            finished_run(folder, recipe(seed=9))
        elif there == "unfinished":
            begin(folder, recipe(seed=9), resume=False, overwrite=False)
            (folder / "checkpoints" / "checkpoint-3").mkdir()
            (folder / "checkpoints" / "checkpoint-3" / "manifest.json").write_text("{}")
        with monkeypatch.context() as patch:
            ended = killed(patch, number, lambda folder=folder: begin(folder, recipe(), **options))
        if there and folder.exists():  # whatever it is now, it goes only where that is asked for
            with pytest.raises(OutputExistsError, match="already holds a run"):
                begin(folder, recipe(), resume=False, overwrite=False)
        assert begin(folder, recipe(), **options)
        assert names(place) == {f"runs/run/{name}" for name in ("checkpoints/started.json", "recipe.yaml")}
        started = json.loads((folder / "checkpoints" / "started.json").read_text())
        assert (started["recipe"], "replacing" in started) == (recipe().dump(), False)
        (folder / "run.json").write_text("{}")
        assert not begin(folder, recipe(), resume=True, overwrite=False)
        assert names(place) == {"runs/run/run.json", "runs/run/recipe.yaml"}
        for resume in (False, True):
            with pytest.raises(OutputExistsError):
                begin(folder, recipe(seed=resume + 1), resume=resume, overwrite=False)
    assert number > {None: 8, "another": 12, "unfinished": 11}[there]


def test_what_is_no_run_is_left_alone(recipe, tmp_path):
    for name in ("thesis.tex", ".notes.txt.12.tmp"):
        (tmp_path / name).touch()
    for resume, overwrite in product((False, True), repeat=2):
        with pytest.raises(OutputExistsError, match="is no run"):
            begin(tmp_path, recipe(), resume=resume, overwrite=overwrite)
    assert names(tmp_path) == {"thesis.tex", ".notes.txt.12.tmp"}


def test_a_run_without_its_recipe_is_not_overwritten_unasked(recipe, tmp_path):
    finished_run(tmp_path / "run", recipe())
    (tmp_path / "run" / "recipe.yaml").unlink()
    for resume in (False, True):
        with pytest.raises(OutputExistsError):
            begin(tmp_path / "run", recipe(), resume=resume, overwrite=False)
    assert begin(tmp_path / "run", recipe(), resume=False, overwrite=True)
