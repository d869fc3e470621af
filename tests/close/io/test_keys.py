"""What a file is known by in caches."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tiny
from PIL import Image

from close.data.shards import open_rows
from close.encoders import load_encoder
from close.io.keys import file_key
from close.vectors.cache import cached_table


def test_two_projects_with_the_same_names_do_not_share_vectors(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSE_CACHE", str(tmp_path / "cache"))
    encoder = load_encoder(str(tiny_encoder))
    for name, colour in (("one", (200, 0, 0)), ("two", (0, 0, 200))):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        Image.new("RGB", (16, 16), colour).save(folder / "1.bmp")
        os.utime(folder / "1.bmp", (10**9, 10**9))  # of one size and time, as unpacked archives have them
        tiny.write_jsonl(folder / "eval.jsonl", [{"image": "1.bmp"}])
        monkeypatch.chdir(tmp_path / name)
        rows = open_rows("data/eval.jsonl")
        found = cached_table(rows, encoder, "image")[:]
        np.testing.assert_allclose(found, encoder.encode_image([rows[0].image]), atol=1e-5)


def test_a_file_has_one_key_however_it_is_named(tmp_path, monkeypatch):
    picture = tiny.picture(tmp_path / "a" / "1.png", 0)
    monkeypatch.chdir(tmp_path)
    names = ("a/1.png", "a/../a/1.png", picture, "a/1.png#xywh=0,0,4,4", f"{picture}#xywh=0,0,4,4")
    keys = [file_key(Path(name)) for name in names]
    assert keys[0] == keys[1] == keys[2] != keys[3] == keys[4]
    assert file_key(Path("a")) == file_key(tmp_path / "a")
    assert file_key(Path("gone")) == file_key(tmp_path / "gone") != file_key(tmp_path / "a" / "gone")
