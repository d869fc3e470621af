"""A conversion that was killed: the same command again ends as if it had not been, and leaves nothing but its output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from close.data.readers import convert
from close.errors import OutputExistsError
from close.io.jobs import Job

READER = """
import os
from close.data.readers import READERS, Reader

@READERS.register("dying")
class Dying(Reader):
    \"\"\"Dies at its second line.\"\"\"

    reads = "lines, as long as DIES is not set"
    uses = ()

    def records(self):
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            if number == 2 and os.environ.get("DIES"):
                os._exit(9)
            yield f"{self.path}:{number}", line

    def row(self, record, where):
        return {"source": record, "id": where.rpartition(":")[2]}
"""


def test_killed_while_it_writes(tmp_path: Path) -> None:
    (tmp_path / "dying.py").write_text(READER)
    (tmp_path / "in").write_text("A dog\nA cat\n")
    command = [sys.executable, "-m", "close", "convert", "dying", "in", "out.jsonl", "--plugin", "./dying.py"]

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | variables
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    assert run(DIES="1").returncode == 9
    assert not (tmp_path / "out.jsonl").exists()
    again = run()
    assert again.returncode == 0, again.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    left = {path.name for path in tmp_path.iterdir()} - {"dying.py", "__pycache__"}
    assert left == {"in", "out.jsonl"}
    refused = run()
    assert refused.returncode == 1
    assert "out.jsonl exists" in refused.stderr
    shown = subprocess.run([*command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "dying – lines, as long as DIES is not set" in " ".join(shown.stdout.split())


def test_killed_after_it_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.txt").write_text("A dog\nA cat\n")
    (tmp_path / "other.txt").write_text("A hound\n")
    out = tmp_path / "made" / "out.jsonl"
    publish = Job.publish

    def die(job: Job) -> None:
        publish(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "publish", die)
    with pytest.raises(KeyboardInterrupt):
        convert("txt", tmp_path / "in.txt", out)
    monkeypatch.undo()
    made = out.read_text()
    with pytest.raises(OutputExistsError):
        convert("txt", tmp_path / "other.txt", out)
    assert convert("txt", tmp_path / "in.txt", out).written == 2
    assert out.read_text() == made
    assert [path.name for path in out.parent.iterdir()] == ["out.jsonl"]
