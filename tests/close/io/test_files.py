"""Files appear whole or not at all; a lock belongs to one process, and dies with it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from close.errors import OutputExistsError
from close.io.files import locked, waiting, whole, write_json

HOLD = """
import sys, time
from pathlib import Path
from close.io.files import waiting

with waiting(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    with pytest.raises(TypeError), whole(tmp_path / "f") as partial:
        partial.write_text(b"half" if partial.write_text("half") else "")  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"
    with whole(tmp_path / "new" / "folder") as partial:
        partial.mkdir()
        (partial / "x").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["folder"]


def test_waiting_waits_for_another_process(tmp_path: Path) -> None:
    start = time.monotonic()
    holder = hold(tmp_path / "new" / "lock", 1.0)
    with waiting(tmp_path / "new" / "lock"):
        assert holder.poll() is not None or time.monotonic() - start >= 1.0
    holder.communicate()


def test_what_is_there_needs_no_lock_where_none_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(lock: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", lock.lock_file)

    monkeypatch.setattr("close.io.files.FileLock.acquire", refused)
    with pytest.raises(OSError, match="Read-only"), waiting(tmp_path / "lock", tmp_path / "made"):
        pass
    (tmp_path / "made").touch()
    with waiting(tmp_path / "lock", tmp_path / "made"):
        pass
    with pytest.raises(OSError, match="Read-only"), waiting(tmp_path / "lock"):
        pass


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    holder = hold(tmp_path / "lock", 600)
    with (
        pytest.raises(OutputExistsError, match="it is built by another process"),
        locked(tmp_path / "lock", "it is built"),
    ):
        pass
    holder.kill()
    holder.communicate()
    with locked(tmp_path / "lock", "it is built"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_locks_of_one_process_refuse_each_other(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", "it is built"),
        pytest.raises(OutputExistsError),
        locked(tmp_path / "lock", "it is built"),
    ):
        pass
    with locked(tmp_path / "lock", "it is built"):
        pass


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from close.io.files import whole\n"
        "with whole(sys.argv[1]) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for name in ("out.json", "out.json", "other.json"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    left = next(tmp_path.glob(".other.*"))
    alive = tmp_path / left.name.replace("other", "out").replace(left.name.split("-")[-1], f"{os.getppid()}.tmp")
    alive.touch()
    write_json(tmp_path / "out.json", np.int64(2))
    assert set(tmp_path.iterdir()) == {tmp_path / "out.json", left, alive}
