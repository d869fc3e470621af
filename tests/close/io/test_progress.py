"""A job says how far it is, to people and to programs that watch it."""

from __future__ import annotations

import json

from close.io.progress import progress


def test_a_file_for_who_watches(tmp_path, monkeypatch):
    watched = tmp_path / "progress.json"
    monkeypatch.setenv("CLOSE_PROGRESS", str(watched))
    with progress("counting", "steps") as update:
        update(0, 5)
        assert json.loads(watched.read_text()) == {"what": "counting", "done": 0, "total": 5}
        update(5, 5)
    assert json.loads(watched.read_text()) == {"what": "counting", "done": 5, "total": 5}
