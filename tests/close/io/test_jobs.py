"""Jobs that make a file or folder: killed at any change of the file system, the same job again ends as if it had not been."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from killing import killed

from close.errors import OutputExistsError
from close.io.jobs import exclusively, job


def make(target: Path, kind: str, told: list[str], content: str = "new", **options: bool) -> None:
    with job(target, {"content": content}, "is being made", **options) as work:
        if kind == "folder":
            work.partial.mkdir()
        (work.partial / "a" if kind == "folder" else work.partial).write_text(content)
        work.publish()
        told.append(content)


def read(target: Path) -> str:
    return (target / "a" if target.is_dir() else target).read_text()


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_every_kill(tmp_path, monkeypatch, kind, overwrite):
    number, ended = 0, False
    while not ended:
        number += 1
        target, told = tmp_path / str(number) / "new" / "out", list[str]()
        if overwrite:
            make(target, kind, [], "old")
        with monkeypatch.context() as patch:
            ended = killed(
                patch, number, lambda target=target, told=told: make(target, kind, told, overwrite=overwrite)
            )
        if target.exists() and read(target) == "old":
            with pytest.raises(OutputExistsError, match="exists; choose another output"):
                make(target, kind, told)
        if not ended:
            make(target, kind, told, overwrite=overwrite)
        assert told[-1] == read(target) == "new"
        assert os.listdir(target.parent) == ["out"]
        with pytest.raises(OutputExistsError, match="exists; choose another output"):
            make(target, kind, told)
    assert number > (7 if overwrite else 6)


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), job(tmp_path / "new" / "out", {}, "is being made") as work:
        work.partial.write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []


def test_what_another_job_has_begun(tmp_path):
    with suppress(KeyboardInterrupt), job(tmp_path / "out", {"run": 1}, "is being made", continues=True) as work:
        work.partial.write_text("half")
        raise KeyboardInterrupt
    with (
        pytest.raises(OutputExistsError, match=r"out\.partial was begun by another job \(other run\)"),
        job(tmp_path / "out", {"run": 2}, "is being made", continues=True),
    ):
        pass
    with (
        pytest.raises(OutputExistsError, match=r"out\.partial was begun by another job \(other run\)"),
        job(tmp_path / "out", {}, "is being made", continues=True),  # less asked is something else
    ):
        pass
    with job(tmp_path / "out", {"run": 1}, "is being made", continues=True) as work:
        assert (work.goes_on, work.partial.read_text()) == (True, "half")
    assert (tmp_path / "out").read_text() == "half"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["out.partial", "out.partial.json"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"continues": True}], ids=str)
def test_what_no_job_has_begun_is_left_alone(tmp_path, name, kind, options):
    """A user's own file or folder that has the name under which a target is made."""
    place = tmp_path / name
    if kind == "file":
        place.write_text('{"own": 1}')
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "gone")
    with pytest.raises(OutputExistsError, match=rf"{name} exists, and would be written over, .*move it away"):
        make(tmp_path / "out", "file", [], **options)
    assert os.listdir(tmp_path) == [name]
    assert kind != "file" or place.read_text() == '{"own": 1}'


def test_one_at_a_time_and_what_killed_ones_left_is_removed(tmp_path):
    for name in (".out.17.tmp", ".out.partial.json.17.tmp", ".output.17.tmp", "out.17.tmp"):
        (tmp_path / name).touch()
    with exclusively(tmp_path / "out", "is being made"):
        assert sorted(os.listdir(tmp_path)) == [".out.lock", ".output.17.tmp", "out.17.tmp"]
        with (
            pytest.raises(OutputExistsError, match="out is being made by another process right now"),
            exclusively(tmp_path / "out", "is being made"),
        ):
            pass
    assert sorted(os.listdir(tmp_path)) == [".output.17.tmp", "out.17.tmp"]
