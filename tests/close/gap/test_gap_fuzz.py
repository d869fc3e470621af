"""What `close gap` reads, damaged: told in one line, or read."""

import json

import numpy as np
import pytest
from fuzzing import as_json, damaged, reshaped

from close.gap.measured_tables import measure_tables
from close.gap.pairing import read_pairs
from close.vectors.open import open_vectors


@pytest.fixture
def tables(tmp_path):
    rng = np.random.default_rng(0)
    for side in ("text", "image"):
        np.save(tmp_path / f"{side}.npy", rng.normal(size=(6, 4)).astype(np.float32))
    return tmp_path


FILES = {
    "pairs.jsonl": "".join(f'{{"text": {i}, "image": {i}}}\n' for i in range(6)),
    "pairs.csv": "text,image\n" + "".join(f"{i},{i}\n" for i in range(6)),
    "rows.jsonl": "".join(
        json.dumps({"id": str(i), "source": f"cat {i}", "image": f"{i}.png"}) + "\n" for i in range(6)
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_fuzz_pairs(tables, tried, name):
    text, image = (open_vectors(tables / f"{side}.npy", side) for side in ("text", "image"))
    for found in damaged(FILES[name].encode()):
        (tables / name).write_bytes(found)
        tried(lambda: read_pairs(tables / name, text, image))


@pytest.mark.parametrize("name", ["pairs.jsonl", "rows.jsonl"])
def test_fuzz_values_of_pairs(tables, tried, name):
    text, image = (open_vectors(tables / f"{side}.npy", side) for side in ("text", "image"))
    for rows in reshaped([json.loads(line) for line in FILES[name].splitlines()]):
        lines = rows if isinstance(rows, list) else [rows]
        (tables / name).write_bytes(b"".join(as_json(row) + b"\n" for row in lines))
        tried(lambda: read_pairs(tables / name, text, image))


def test_fuzz_vectors(tables, tried):
    whole = (tables / "text.npy").read_bytes()
    for found in damaged(whole):
        (tables / "text.npy").write_bytes(found)
        tried(lambda: measure_tables([("", tables / "text.npy", tables / "image.npy")], bootstrap=0))
