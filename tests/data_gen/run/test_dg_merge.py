"""Merges: what a run takes for one thing stays one, and no size is too large."""

import json
import tracemalloc

from data_gen.run import merge_shards


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_merge_needs_no_memory_for_the_texts(tmp_path):
    texts = [f"\U0001f436 {n} {'dog ' * 2000}" for n in range(400)]
    part = write(tmp_path / "part.jsonl", [{"source": text, "target": text} for text in texts])
    tracemalloc.start()
    assert merge_shards([part], tmp_path / "all.jsonl") == (400, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < part.stat().st_size / 3
