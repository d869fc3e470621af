"""`data-gen serve-mini` as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The server's URL, once it answers; it is ended by Ctrl-C, and must end by it."""
    end = time.monotonic() + 300
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stderr=out, stdout=subprocess.DEVNULL)
    try:
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, f"no answer in five minutes: {log.read_text()}"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
        process.send_signal(signal.SIGINT)
        process.wait(120)
    finally:
        process.kill()


def _answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False
