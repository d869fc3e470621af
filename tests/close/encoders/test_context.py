"""Texts longer than the encoder's context are counted and told, wherever texts are encoded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from close.data.rows import RowFile
from close.encoders import ContrastiveEncoder, load_encoder
from close.vectors.build import embed_texts
from close.vectors.cache import cached_table

LONG = [" ".join(tiny.sentences(30, seed=7)[i:]) for i in range(2)]
FAMILIES = [
    "open_clip_dir",
    "coca_dir",
    "siglip_like_dir",
    "hf_clip_dir",
    "hf_siglip_dir",
    "hf_siglip2_dir",
    "hf_clap_dir",
]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_cut_is_counted(zoo, family):
    encoder = load_encoder(str(zoo(family)), device="cpu")
    tokenizer: Any = encoder.tokenizer if family.startswith("hf") else encoder.tokenizer.tokenizer
    words = (tiny.WORDS * 2)[:40]
    texts = [" ".join(words[:count]) for count in range(1, 40)]
    longer = [len(tokenizer(text).input_ids) > 24 for text in texts]
    assert encoder.context == 24
    assert 0 < sum(longer) < len(texts)
    assert [encoder.read_texts([text])[1] for text in texts] == [int(is_longer) for is_longer in longer]
    features, cut = encoder.read_texts(texts)
    assert cut == sum(longer)
    assert torch.equal(features, encoder.text_features(texts))


def test_padding_that_is_the_end_token(tiny_encoder, tmp_path):
    folder = shutil.copytree(tiny_encoder, tmp_path / "e")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "</s>"}))
    encoder = load_encoder(str(folder), device="cpu")
    texts = [" ".join((tiny.WORDS * 2)[:count]) for count in range(20, 26)]
    assert [encoder.read_texts([text])[1] for text in texts] == [0, 0, 0, 1, 1, 1]  # with a start and an end


def test_open_clips_own_tokenizer():
    encoder = load_encoder("mini", device="cpu")
    texts = ["! " * 40, "a dog", "a " * encoder.context, "! " * (encoder.context - 2), "! " * (encoder.context - 1)]
    assert [encoder.read_texts([text])[1] for text in texts] == [1, 0, 1, 0, 1]


@pytest.fixture
def long_rows(tmp_path: Path) -> RowFile:
    return RowFile(tiny.write_jsonl(tmp_path / "long.jsonl", [{"source": text} for text in [*LONG, LONG[0], "a dog"]]))


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> ContrastiveEncoder:
    return load_encoder(str(tiny_encoder), device="cpu")


def test_tables_know_and_tell_it_once(long_rows, encoder, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("close.vectors.build.CHUNK", 2)
    told = "2 of 3 texts are longer than the encoder reads (24 tokens) and were cut"
    table = embed_texts(long_rows, encoder, tmp_path / "t")
    assert (table.info["context"], table.info["cut"]) == (24, 2)
    assert caplog.text.count(told) == 1
    for _ in range(2):
        cached_table(long_rows, encoder, "text")
    assert caplog.text.count(told) == 1


def test_from_the_command_line(long_rows, tiny_encoder, tiny_t5, tmp_path, cli):
    ran = cli("embed", "text", long_rows.path, "--encoder", tiny_encoder, "--out", tmp_path / "t", "--json")
    assert json.loads(ran.out)["cut"] == 2
    assert ran.messages == [
        f"note: {long_rows.path}: 2 of 3 texts are longer than the encoder reads (24 tokens) and were cut"
    ]


def test_training_tells_it(long_rows, recipe, tmp_path, caplog):
    from close.training.train import train

    train(recipe(data={"train": str(long_rows.path)}, training={"epochs": 1}), tmp_path / "run")
    assert "2 of 3 texts are longer" in caplog.text


def test_texts_encoded_on_the_way_are_told_once(encoder, caplog):
    for _ in range(3):
        encoder.encode_text([LONG[0], "a dog"])
    assert caplog.text.count("1 of 2 texts is longer than the encoder reads (24 tokens) and was cut") == 1


def test_encoders_that_do_not_say_it(encoder, tmp_path, long_rows, monkeypatch):
    monkeypatch.setattr(encoder, "context", None)
    assert "cut" not in embed_texts(long_rows, encoder, tmp_path / "t").info
