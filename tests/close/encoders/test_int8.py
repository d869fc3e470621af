"""Encoders whose products are in 8 bits: near those in float, the same weights to everyone, and what it costs is told."""

from __future__ import annotations

import json
import logging
import pickle

import pytest
import tiny
import torch
from torch.nn import functional as F

from close.data.rows import RowFile
from close.encoders import load_encoder
from close.errors import RecipeError
from close.fast.int8 import Int8Linear
from close.fast.probe import is_on
from close.mini import export
from close.vectors.cache import cached_table

pytestmark = pytest.mark.skipif(
    not is_on("int8"), reason="this machine has no products in 8 bits: the refusal is tested elsewhere"
)
FAMILIES = ("open_clip_dir", "coca_dir", "hf_clip_dir", "hf_siglip_dir", "hf_siglip2_dir", "hf_clap_dir")


class TestLayer:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(64,), (1, 64), (3, 5, 64), (700, 1024)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_near_the_product_in_float(self, dtype, shape, bias):
        torch.manual_seed(0)
        plain = torch.nn.Linear(shape[-1], 96, bias=bias)
        layer = Int8Linear(plain.weight.to(dtype), plain.bias.to(dtype) if bias else None)
        x = torch.randn(shape)
        with torch.inference_mode():
            found, wanted = layer(x.to(dtype)), plain(x)
        assert (found.shape, found.dtype) == (wanted.shape, dtype)
        assert F.cosine_similarity(found.float(), wanted, dim=-1).min() > 0.9995

    def test_a_huge_row_takes_no_precision_from_the_others_and_zeros_stay(self):
        torch.manual_seed(0)
        plain, x = torch.nn.Linear(64, 32, bias=False), torch.randn(4, 64)
        layer = Int8Linear(plain.weight)
        x[1] *= 1e4
        x[2] = 0
        with torch.inference_mode():
            found, alone = layer(x), layer(x[:1])
        assert torch.equal(found[:1], alone)
        assert not found[2].any()
        assert F.cosine_similarity(found[[0, 1, 3]], plain(x)[[0, 1, 3]]).min() > 0.9995

    def test_it_holds_a_quarter_of_the_memory(self):
        weight = torch.randn(512, 512)
        assert Int8Linear(weight).numbers.nbytes == weight.nbytes // 4


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(zoo, family, tmp_path):
    plain, small = (load_encoder(str(zoo(family)), device="cpu", precision=name) for name in ("fp32", "int8"))
    assert small.precision == "int8"
    assert small.fingerprint == plain.fingerprint
    texts = tiny.sentences(20, seed=5)
    assert F.cosine_similarity(small.text_features(texts), plain.text_features(texts)).min() > 0.99
    if "clap" not in family:
        pictures = [tiny.picture(tmp_path / f"{i}.png", seed=i, size=20 + i) for i in range(3)]
        found, wanted = (encoder.image_features(pictures)[0] for encoder in (small, plain))
        assert F.cosine_similarity(found, wanted).min() > 0.99
        assert set(small.int8_cosines) == {"texts", "images"}
    assert min(small.int8_cosines.values()) > 0.99
    assert plain.int8_cosines is None


@pytest.fixture(scope="module")
def small():
    return load_encoder("mini", precision="int8")


def test_another_process_has_it_too(small):
    again = pickle.loads(pickle.dumps(small))
    assert again.precision == "int8"
    assert torch.equal(again.text_features(["a red ring"]), small.text_features(["a red ring"]))


def test_its_tables_are_its_own_and_fit_the_run_all_the_same(small, cli, tmp_path):
    export(tmp_path / "data", "train", 8)
    rows = RowFile(tmp_path / "data" / "captions.jsonl")
    tables = {encoder.precision: cached_table(rows, encoder, "text") for encoder in (small, load_encoder("mini"))}
    assert tables["int8"].path != tables["fp32"].path
    assert tables["int8"].fingerprint == tables["fp32"].fingerprint
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"data: {{train: {rows.path}}}\ntraining: {{max_steps: 30, batch_size: 16, save_strategy: 'no'}}\n"
    )
    assert cli("train", str(recipe), "--out", str(tmp_path / "run")).code == 0
    said = {}
    for precision in ("auto", "int8"):
        done = cli(
            "caption", str(tmp_path / "run"), str(tmp_path / "data" / "images"), "--precision", precision, "--json"
        )
        assert done.code == 0, done.err
        said[precision] = [json.loads(line)["text"] for line in done.out.splitlines()]
    assert sum(a == b for a, b in zip(*said.values(), strict=True)) >= 7


def test_what_it_costs_is_told(monkeypatch, caplog):
    monkeypatch.setattr("close.encoders.int8.ENOUGH", 1.1)
    with caplog.at_level(logging.WARNING):
        load_encoder("mini", precision="int8")
    assert "in int8 its features have a cosine of" in caplog.text


def test_where_it_cannot_be(monkeypatch):
    monkeypatch.setattr("close.encoders.base.pick_device", lambda device: torch.device("meta"))
    with pytest.raises(RecipeError, match="int8 is for the CPU"):
        load_encoder("mini", precision="int8")
    monkeypatch.undo()
    monkeypatch.setenv("CLOSE_FAST", "0")
    with pytest.raises(RecipeError, match="int8 can't be taken here: turned off by CLOSE_FAST=0"):
        load_encoder("mini", precision="int8")
