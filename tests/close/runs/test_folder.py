"""A run's folder as it begins: killed at any change of the file system, nothing is lost and nothing is overwritten unasked."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from killing import killed

from close.errors import CloseError, DataError, OutputExistsError
from close.io.jobs import exclusively
from close.runs.folder import begin_run, is_finished, tidy
from close.runs.inspection import describe


def begin(folder: Path, recipe: Any, **options: bool) -> bool:
    """As `train` does; whether there is work to do."""
    with exclusively(folder, "is being trained"):
        if is_finished(folder, recipe, resume=options["resume"], overwrite=options["overwrite"]):
            tidy(folder)
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


def test_goes_on_as_it_began(recipe, tmp_path):
    """Of another number of processes, or another precision, steps would be others; a run of before did not say."""
    given: dict[str, Any] = {"encoder": "e", "data": {"c.jsonl": "s"}, "resume": True}
    begin_run(tmp_path, recipe(), **given)
    for how in ({"precision": "bf16", "processes": 8}, {"precision": "fp32", "processes": 8}):
        started = json.loads((tmp_path / "checkpoints" / "started.json").read_text())
        (tmp_path / "checkpoints" / "started.json").write_text(json.dumps(started | {"how": how}))
        begin_run(tmp_path, recipe(), **given, how=how)
        begin_run(tmp_path, recipe(), **given)
        other = {"precision": "fp32", "processes": 1}
        with pytest.raises(OutputExistsError, match=r"began with .*processes 8 \(now 1\)") as told:
            begin_run(tmp_path, recipe(), **given, how=other)
        assert ("precision bf16 (now fp32)" in str(told.value)) is (how["precision"] == "bf16")
    (tmp_path / "checkpoints" / "started.json").write_text(json.dumps({"recipe": recipe().dump(), "how": 3}))
    with pytest.raises(DataError, match="damaged, how is 3"):
        begin_run(tmp_path, recipe(), **given)


def test_what_is_no_run_is_left_alone(recipe, tmp_path):
    for name in ("thesis.tex", ".notes.txt.12.tmp"):
        (tmp_path / name).touch()
    for resume, overwrite in product((False, True), repeat=2):
        with pytest.raises(OutputExistsError, match="is no run"):
            begin(tmp_path, recipe(), resume=resume, overwrite=overwrite)
    assert names(tmp_path) == {"thesis.tex", ".notes.txt.12.tmp"}


@pytest.mark.parametrize("folder", [".", "/"])
def test_what_is_nothing_is_told(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CloseError, match=f"encoder {folder}: none of config.json"):
        describe(folder)


def test_a_run_without_its_recipe_is_not_overwritten_unasked(recipe, tmp_path):
    finished_run(tmp_path / "run", recipe())
    (tmp_path / "run" / "recipe.yaml").unlink()
    for resume in (False, True):
        with pytest.raises(OutputExistsError):
            begin(tmp_path / "run", recipe(), resume=resume, overwrite=False)
    assert begin(tmp_path / "run", recipe(), resume=False, overwrite=True)


@pytest.mark.parametrize(("there", "here"), [({"shared": None}, {"none": None}), ({"none": {}}, {"none": None})])
def test_keys_without_values_are_keys(recipe, tmp_path, there, here):
    begin(tmp_path / "run", recipe(adapter=there), resume=False, overwrite=False)
    assert begin(tmp_path / "run", recipe(adapter=there), resume=True, overwrite=False)
    with pytest.raises(OutputExistsError, match=f"adapter.{next(iter(there))}: .* there, .* here"):
        begin(tmp_path / "run", recipe(adapter=here), resume=True, overwrite=False)
