"""Training from shards: the same run as from one file, and the same again after a stop in the middle of an epoch."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from close.data.readers import convert
from close.data.rows import RowFile
from close.data.shards import RowShards, open_rows
from close.encoders import load_encoder
from close.errors import DataError, MissingError
from close.training.examples import Collator
from close.training.train import train
from close.vectors.cache import cached_table

COUNT = 50


@pytest.fixture(scope="module", params=["jsonl", "parquet"])
def shards(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty captions in three shards."""
    folder = tmp_path_factory.mktemp("shards") / request.param
    folder.mkdir()
    rows = tiny.caption_rows(COUNT)
    for number, part in enumerate((rows[:7], rows[7:30], rows[30:])):
        if request.param == "jsonl":
            tiny.write_jsonl(folder / f"part-{number}.jsonl", part)
        else:
            pq.write_table(
                pa.Table.from_pylist([{"text": row["source"]} for row in part]), folder / f"part-{number}.parquet"
            )
    return folder


def test_rows_are_those_of_the_shards(shards):
    rows = open_rows(shards)
    assert isinstance(rows, RowShards)
    assert [row.source[0] for row in rows] == tiny.sentences(COUNT)
    assert len({row.id for row in rows}) == COUNT
    assert rows[-1].source == rows[COUNT - 1].source
    assert [row.id for row in rows[5:9]] == [rows[i].id for i in range(5, 9)]
    with pytest.raises(IndexError):
        rows[COUNT]


def test_threads_read_the_rows_that_they_ask_for(tmp_path, monkeypatch):
    monkeypatch.setattr("close.data.shards.OPEN_SHARDS", 2)
    for number in range(8):
        tiny.write_jsonl(tmp_path / f"{number}.jsonl", [{"source": f"{number} {row}"} for row in range(3)])
    rows = open_rows(tmp_path)
    places = np.random.default_rng(0).integers(0, 24, 4000).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: rows[place].source[0], places))
    assert found == [f"{place // 3} {place % 3}" for place in places]
    assert all(shard._handle is None for shard in rows.shards)


def test_what_is_no_shard_is_told(tmp_path):
    with pytest.raises(DataError, match="no shard in this folder"):
        open_rows(tmp_path)
    with pytest.raises(MissingError, match="no such file"):
        open_rows(tmp_path / "gone.parquet")
    (tmp_path / "a.jsonl").write_text('{"source": "a dog"}\n{"source": 3}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        open_rows(tmp_path)


def test_two_shards_of_one_name_are_refused(tmp_path):
    tiny.write_jsonl(tmp_path / "x.jsonl", [{"source": "one"}])
    (tmp_path / "x-2.txt").write_text("three\n")
    assert [row.id for row in open_rows(tmp_path)] == ["x-2/1", "x/1"]
    (tmp_path / "x.csv").write_text("caption\ntwo\n")
    with pytest.raises(DataError, match=r"x\.csv and x\.jsonl would give rows of one id, x/"):
        open_rows(tmp_path)


def test_folders_that_differ_in_names_alone_have_tables_of_their_own(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    encoder = load_encoder(str(tiny_encoder))
    for folder, names in (("a", ("part-0", "part-1")), ("b", ("x", "y")), ("c", ("x", "y"))):
        (tmp_path / folder).mkdir()
        for name, text in zip(names, ("a dog", "a cat"), strict=True):
            tiny.write_jsonl(tmp_path / folder / f"{name}.jsonl", [{"source": text}])
    one, two, three = (cached_table(open_rows(tmp_path / name), encoder, "text") for name in "abc")
    assert (list(one.ids), list(two.ids)) == (["part-0/1", "part-1/1"], ["x/1", "y/1"])
    assert two.path == three.path


def test_names_of_vectors_are_no_captions_and_texts_beside_rows_are_told(tmp_path, caplog):
    tiny.write_jsonl(tmp_path / "x.jsonl", [{"source": "one"}, {"source": "two"}])
    alone = open_rows(tmp_path).sha256
    (tmp_path / "vectors.ids.txt").write_text("1\n2\n")
    assert open_rows(tmp_path).sha256 == alone
    assert not caplog.text
    (tmp_path / "README.txt").write_text("Captions of a friend.\n")
    open_rows(tmp_path)
    assert "lines of README.txt are read as captions" in caplog.text


@pytest.mark.parametrize("folder", [False, True])
def test_parquet_is_itself_wherever_the_cache_lies(tmp_path, monkeypatch, folder):
    """Its sum, its place and its pictures; what an earlier version took for its sum is known as its own."""
    place = tmp_path / "data" / "x.parquet"
    tiny.picture(place.parent / "pictures" / "1.png", 0)
    values = [{"caption": f"dog {i}", "image": "pictures/1.png", "score": 0.1 * i} for i in range(3)]
    pq.write_table(pa.Table.from_pylist(values), place)
    sums, before = set(), []
    for cache in ("one", "deep/two"):
        monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / cache))
        rows = open_rows(place.parent if folder else place)
        assert all(row.image.is_file() for row in rows)
        assert rows.path == (place.parent if folder else place)
        sums.add(str(rows.sha256))
        lines = tmp_path / cache / "rows" / "old.jsonl"
        convert("parquet", place, lines)
        known = RowFile(lines).sha256
        before.append(hashlib.sha256(f"x\0{known}".encode()).hexdigest() if folder else known)
        assert rows.sha256 == before[-1]
        assert before[-1] == pickle.loads(pickle.dumps(rows)).sha256
        assert rows.sha256 != before[0] or cache == "one"
    assert len(sums) == 1
    assert before[0] != before[1]


class Stop(TrainerCallback):
    """Stops in the middle of the second epoch, as a kill would leave it."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 6:
            raise KeyboardInterrupt


def test_every_row_once_an_epoch_also_after_a_stop_in_the_middle(shards, recipe, tmp_path, monkeypatch):
    seen: list[int] = []
    collate = Collator.__call__

    def watch(self: Any, examples: list[dict[str, Any]]) -> Any:
        seen.extend(example["row"] for example in examples)
        return collate(self, examples)

    monkeypatch.setattr(Collator, "__call__", watch)
    settings = {"save_strategy": "steps", "save_steps": 1}
    values = recipe(settings, data={"train": str(shards)})
    train(values, tmp_path / "whole")
    assert Counter(seen) == dict.fromkeys(range(COUNT), 2)
    assert seen[:COUNT] != seen[COUNT:] != sorted(seen[COUNT:])

    with pytest.raises(KeyboardInterrupt):
        train(values, tmp_path / "cut", callbacks=[Stop()])
    train(values, tmp_path / "cut", resume=True)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    about = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert about["train"][0]["examples"] == COUNT
