"""`close sweep --dry-run` looks at the runs that are there as the sweep will, which goes on with them."""

import shutil

import pytest
import tiny

from close.errors import OutputExistsError
from close.io.jobs import exclusively
from close.study.arms import arms_of
from close.study.plan import lines_of, plan
from close.study.sweep import run_folder
from close.training.train import train


def test_runs_that_are_there(recipe, captions, tmp_path, caplog):
    own = shutil.copy(captions, tmp_path / "own.jsonl")
    base = recipe({"max_steps": 1, "save_strategy": "no"}, data={"train": str(own)})
    arms = arms_of(["none"], [1.0], image=False)
    given, place = run_folder(base, arms[0], 0, tmp_path / "s")
    train(given, place)
    asked = (base, arms, [0, 1], None, tmp_path / "s")
    with exclusively(run_folder(base, arms[0], 1, tmp_path / "s")[1], "is being trained"):
        planned = plan(*asked, select=captions)
    assert [run["state"] for run in planned["arms"][0]["runs"]] == ["finished", "being trained"]
    assert "seed 1 being trained: " in lines_of(planned)
    assert "trained anew" not in caplog.text
    caplog.clear()
    moved = plan(*asked[:4], shutil.copytree(tmp_path / "s", tmp_path / "far" / "s"), select=captions)
    assert moved["arms"][0]["runs"][0]["state"] == "to be trained"  # its data lie elsewhere, as seen from there
    (told,) = caplog.messages
    assert f"1 of the runs to come are there by arm and seed already, such as {place.name}, but of another" in told
    tiny.write_jsonl(own, tiny.caption_rows(24))
    with pytest.raises(OutputExistsError, match=r"own.jsonl has changed since it was trained"):
        plan(*asked, select=captions)
