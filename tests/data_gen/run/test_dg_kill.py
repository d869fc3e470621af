"""kill −9 of a real process at random moments, again and again: the files end as if nothing had happened."""

import random
import signal
import subprocess
import time

import pytest
from dg_server import Do, Server, good
from dg_tools import command, environment, rows


def arguments(out, examples, url, count):
    corpus = ["--sampling", "unigram", "--block", "16", "--corpus", examples, "--min-count", "1"]
    filters = ["--filter", "near=0.9", "--filter", "ngrams=50/800", "--concurrency", "8"]
    named = ["--out", out, "--count", count, "--model", "m", "--base-url", url, "--examples", examples]
    return ["captions", *named, *corpus, *filters]


class Holding:
    """A server that answers well, but no more than `left` requests."""

    def __init__(self):
        self.left = 0

    def __call__(self, body, before):
        self.left -= 1
        return good(body, before) if self.left >= 0 else Do(delay=3600)


def kill_and_continue(out, examples, count, kills, rng):
    """How many of the kills hit the run while it was writing: it can't end before."""
    journal, hits, hold = out.with_name(out.name + ".journal"), 0, Holding()
    with Server(hold) as server:
        line = command(*arguments(out, examples, server.url, count))
        for _ in range(kills):
            hold.left = count // (kills + 1)
            process = subprocess.Popen(line, env=environment(), stderr=subprocess.DEVNULL)
            before = size(journal)
            if rng.random() < 0.1:
                time.sleep(rng.random())  # during start-up and replay
            else:
                enough = before + rng.randrange(1, 9000)
                while process.poll() is None and size(journal) < enough and (hold.left >= 0 or size(journal) == before):
                    time.sleep(0.001)
                hits += size(journal) > before
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        hold.left = 10**9
        assert subprocess.run(line, env=environment(), capture_output=True, timeout=300).returncode == 0
        asked = len(server.requests)
    return hits, asked


def size(path):
    return path.stat().st_size if path.exists() else 0


def timeless(path):
    found = rows(path)
    for row in found:
        row.get("meta", row).pop("time")
    return found


def check(tmp_path, examples, count, kills):
    out, whole = tmp_path / "killed.jsonl", tmp_path / "whole.jsonl"
    hits, asked = kill_and_continue(out, examples, count, kills, random.Random(kills))
    with Server(good) as server:
        subprocess.run(
            command(*arguments(whole, examples, server.url, count)), env=environment(), check=True, timeout=300
        )
        once = len(server.requests)
    assert timeless(out) == timeless(whole)
    assert len(timeless(out)) == count
    assert timeless(tmp_path / "killed.jsonl.rejected.jsonl") == timeless(tmp_path / "whole.jsonl.rejected.jsonl")
    assert asked - once <= 9 * kills + 64  # a kill costs what was under way, and no more
    return hits


def test_kills(tmp_path, examples):
    assert check(tmp_path, examples, 100, 4) >= 2


@pytest.mark.slow
def test_fifty_kills(tmp_path, examples):
    assert check(tmp_path, examples, 1200, 50) >= 35


def test_ctrl_c_tells_and_continues(tmp_path, examples):
    out = tmp_path / "out.jsonl"
    with Server(good) as server:
        line = command(*arguments(out, examples, server.url, 5000))
        process = subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True)
        while size(out) < 3000:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "the same command continues" in message
    assert "Traceback" not in message
    kept = len(rows(out))
    with Server(good) as server:
        subprocess.run(
            command(*arguments(out, examples, server.url, kept + 20)), env=environment(), check=True, timeout=300
        )
    assert len(rows(out)) == kept + 20
