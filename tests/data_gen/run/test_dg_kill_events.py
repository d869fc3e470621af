"""Kills at every change of a file in a small run: nothing that was there is lost, and what comes in the end is the same.

`KILLS=all` tries every change; else some, seeded.
"""

import itertools
import os
import random

import pytest
from dg_killing import killed
from dg_server import Server, good
from dg_tools import rows, timeless

from data_gen import CaptionOptions
from data_gen.run import generate, merge_shards

SOME = 8


def places(seed):
    """The changes to be killed at: all, or the first three and some later ones."""
    if os.environ.get("KILLS") == "all":
        return itertools.count(1)
    return [1, 2, 3, *sorted(random.Random(seed).sample(range(4, 60), SOME))]


@pytest.fixture
def captions(tmp_path, examples):
    (tmp_path / "corpus.txt").write_text("\n".join(["a dog sleeps"] * 30 + ["a cat runs"] * 10 + ["a bus waits"] * 5))

    def run(server, out):
        options = {"examples": examples, "corpus": tmp_path / "corpus.txt", "sampling": "unigram", "block": 4}
        options |= {"concurrency": 3, "filter": ["near=0.8", "keywords"]}
        generate("captions", CaptionOptions(out=out, count=10, model="m", base_url=server.url, **options))

    return run


def answers(out):
    """The whole lines of a journal, by number of request."""
    journal = out.with_name(f"{out.name}.journal")
    lines = journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []
    return set(lines)


def test_kills_at_the_changes_of_a_run(captions, tmp_path, monkeypatch):
    whole = tmp_path / "whole.jsonl"
    with Server(good) as server:
        captions(server, whole)
        expected = timeless(whole), timeless(tmp_path / "whole.jsonl.rejected.jsonl")
        for at in places(1):
            folder = tmp_path / str(at)
            folder.mkdir()
            out = folder / "o.jsonl"
            ended = killed(monkeypatch, at, lambda out=out: captions(server, out))
            before = answers(out)
            captions(server, out)
            assert before <= answers(out), at
            assert (timeless(out), timeless(folder / "o.jsonl.rejected.jsonl")) == expected, at
            assert len(list(folder.iterdir())) == 3, at
            if ended:
                break


def test_kills_upon_kills(captions, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "o.jsonl"
    rng, seen = random.Random(0), set()
    with Server(good) as server:
        captions(server, whole)
        for _ in range(40):
            ended = killed(monkeypatch, rng.randrange(1, 40), lambda: captions(server, out))
            assert seen <= answers(out)
            seen = answers(out)
            if ended:
                break
        captions(server, out)
    assert timeless(out) == timeless(whole)
    assert timeless(tmp_path / "o.jsonl.rejected.jsonl") == timeless(tmp_path / "whole.jsonl.rejected.jsonl")


def test_kills_at_the_changes_of_a_merge(tmp_path, monkeypatch):
    shard, out = tmp_path / "shard.jsonl", tmp_path / "folder" / "all.jsonl"
    shard.write_text("".join(f'{{"source": "dog {n % 5}", "target": "cat"}}\n' for n in range(9)))
    out.parent.mkdir()
    for at in range(1, 20):
        ended = killed(monkeypatch, at, lambda: merge_shards([shard], out))
        there = out.exists()
        assert not there or len(rows(out)) == 5
        if there:  # as a person would who wants it again
            out.unlink()
        assert merge_shards([shard], out) == (5, 4)
        assert [path.name for path in out.parent.iterdir()] == ["all.jsonl"], at
        out.unlink()
        if ended:
            break
    assert ended
