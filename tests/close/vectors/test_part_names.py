"""Rows of `.npy` parts have the names that clip-retrieval's metadata give them."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fuzzing import INPUTS, Tried
from pyarrow import parquet

from close.errors import DataError
from close.vectors.open import open_vectors
from close.vectors.table import EmbeddingTable

RNG = np.random.default_rng(0)
IMAGE, TEXT = (RNG.normal(size=(24, 8)).astype(np.float16) for _ in range(2))
KEYS = [f"{row:09d}" for row in range(24)]
CAPTIONS = [f"a dog, {row} years old" for row in range(24)]
ALL = {"image_path": KEYS, "caption": CAPTIONS, "url": [f"https://x.org/{key}" for key in KEYS], "NSFW": ["no"] * 24}


def embedded(folder: Path, columns: dict[str, list[Any]], cuts: tuple[int, ...] = (10, 15)) -> Path:
    """As clip-retrieval leaves it: parts 9, 10 and 11, which are not in the order of their names."""
    for place in ("img_emb", "text_emb", "metadata"):
        (folder / place).mkdir(parents=True)
    for number, (start, end) in enumerate(zip((0, *cuts), (*cuts, 24), strict=True), 9):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", IMAGE[start:end])
        np.save(folder / "text_emb" / f"text_emb_{number}.npy", TEXT[start:end])
        rows = {name: values[start:end] for name, values in columns.items()}
        parquet.write_table(pa.table(rows), folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def test_files_keys_and_captions_name_rows(tmp_path):
    folder = embedded(tmp_path / "all", ALL)
    for place, side in ((folder, "image"), (folder, "text"), (folder / "img_emb", None)):
        assert list(open_vectors(place, side).ids) == KEYS
    one = open_vectors(folder / "img_emb" / "img_emb_10.npy")
    assert (list(one.ids), one.ids[4], one.ids[1:3], len(one.ids)) == (KEYS[10:15], KEYS[14], KEYS[11:13], 5)
    for left in ("image_path", "url"):
        ALL_BUT = {name: ALL[name] for name in ("url", "caption", "NSFW") if left == "image_path" or name != "url"}
        ids = list(open_vectors(embedded(tmp_path / left, ALL_BUT), "text").ids)
        assert ids == (ALL["url"] if left == "image_path" else CAPTIONS)


def test_flat(tmp_path):
    folder = embedded(tmp_path, ALL)
    for file in [*folder.glob("img_emb/*"), *folder.glob("metadata/*")]:
        file.rename(folder / file.name)
    assert list(open_vectors(folder, "image").ids) == KEYS


def test_names_that_come_again_or_are_missing(tmp_path):
    names = ["a", "a", None, "", "a#2", "a\n", *KEYS[6:]]
    ids = list(open_vectors(embedded(tmp_path, {"image_path": names}), "image").ids)
    assert ids[:6] == ["a", "a#2", "2", "3", "a#2#2", r"a\n"]
    assert len(set(ids)) == 24
    table = EmbeddingTable.from_numpy(tmp_path / "img_emb", tmp_path / "table", modality="image")
    assert list(table.ids) == ids


@pytest.mark.parametrize("fault", ["rows", "file", "columns", "bytes"])
def test_metadata_that_do_not_fit_are_told_and_not_used(tmp_path, caplog, fault):
    folder = embedded(tmp_path, {"width": [0.5] * 24} if fault == "columns" else ALL)
    file = folder / "metadata" / "metadata_10.parquet"
    if fault == "rows":
        parquet.write_table(pa.table({"image_path": ["x"]}), file)
    elif fault == "file":
        file.unlink()
    elif fault == "bytes":
        file.write_bytes(b"PAR1")
    with caplog.at_level(logging.WARNING, "close"):
        vectors = open_vectors(folder, "image")
    assert vectors.ids is None
    assert (len(vectors), len(caplog.messages)) == (24, 1)
    assert caplog.messages[0].endswith("; rows are called by their numbers")


def test_fuzz_of_names(tried: Tried, tmp_path: Path) -> None:
    """Cut files, and columns of any type; what a flipped byte does is tried in processes of their own (test_fuzz_parquet.py)."""
    folder = embedded(tmp_path, ALL, cuts=())
    file = next((folder / "metadata").iterdir())
    whole = file.read_bytes()
    for number in range(INPUTS):
        rng = random.Random(number)
        if number % 2:
            file.write_bytes(whole[: rng.randrange(len(whole))])
        else:
            made = {rng.choice(["image_path", "caption", "id", "key"]): rng.choice(KINDS)() for _ in range(3)}
            parquet.write_table(pa.table(made), file)
        found = tried(lambda: (lambda ids: ids and list(ids))(open_vectors(folder, "image").ids))
        assert found is None or isinstance(found, DataError) or len(set(found)) == 24


KINDS: list[Callable[[], Any]] = [
    lambda: pa.array([b"\xff"] * 24, pa.binary()).view(pa.string()),
    lambda: pa.array([2**62] * 24, pa.timestamp("us")),
    lambda: pa.array([["a"]] * 24),
    lambda: pa.array([1.5] * 24),
    lambda: pa.array([-1] * 24),
    lambda: pa.array(["\x1b[2J"] * 24),
    lambda: pa.array([None] * 24, pa.string()),
    lambda: pa.nulls(24),
    lambda: pa.array(["a", "b"] * 12).dictionary_encode(),
]
