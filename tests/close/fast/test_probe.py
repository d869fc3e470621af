"""One seam for speed: probed once, a reason where it is off, and the same without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from close.fast import probe
from close.fast.precision import has_bf16

SAID = """
import json, sys, torch, close
from close.encoders import load_encoder
captioner = close.load(sys.argv[1], precision="fp32")
outputs = captioner(sys.argv[2])
encoder = load_encoder(sys.argv[3], precision="fp32")
print(json.dumps([[o.text for o in outputs], [o.score for o in outputs],
    encoder.encode_text(json.loads(sys.argv[4])).tolist(), encoder.encode_image(
    [o.item for o in outputs]).tolist()]))
"""


@pytest.fixture
def unprobed():
    probe._probed.cache_clear()
    yield
    probe._probed.cache_clear()


def test_the_report_says_why_not():
    for path, entry in probe.fast_report().items():
        assert entry["on"] == (entry["reason"] is None) == probe.is_on(path)


def test_one_variable_turns_all_of_it_off(monkeypatch):
    monkeypatch.setenv("CLOSE_FAST", "0")
    for path, entry in probe.fast_report().items():
        assert entry == {"on": False, "reason": "turned off by CLOSE_FAST=0"}
        assert not probe.is_on(path)
    assert not has_bf16(torch.device("cpu"))


def test_what_another_version_lacks_is_a_reason_and_no_error(unprobed, monkeypatch):
    def gone(*args: Any) -> Any:
        raise AttributeError("no such operator\nand more of it")

    monkeypatch.setattr("close.fast.packing.packed", gone)
    assert not probe.is_on("packed_layers")
    assert probe.fast_report()["packed_layers"]["reason"] == "AttributeError: no such operator"


def test_what_another_version_says_otherwise_is_a_reason(unprobed, monkeypatch):
    import close.fast.search as search

    found = search.find_texts
    monkeypatch.setattr(search, "find_texts", lambda *args: (found(*args)[0] + 1, found(*args)[1]))
    assert "another text than transformers" in probe.fast_report()["t5_search"]["reason"]


def test_a_probe_leaves_the_callers_generators_and_modes(unprobed, monkeypatch):
    torch.manual_seed(5)
    monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: pytest.fail("another device's was moved"))
    wanted = torch.rand(3)
    torch.default_generator.manual_seed(5)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        report = probe.fast_report()
    assert torch.equal(torch.rand(3), wanted)
    probe._probed.cache_clear()
    assert report == probe.fast_report()


def test_turned_off_the_texts_are_the_same_and_the_tables_within_a_millionth(run, pictures, tiny_encoder):
    texts = json.dumps(["a red dog", "a cat and a blue boat on the grass", "a bird"])
    said = []
    for value in ("1", "0"):
        done = subprocess.run(
            [sys.executable, "-c", SAID, str(run), str(pictures), str(tiny_encoder), texts],
            capture_output=True,
            text=True,
            env=os.environ | {"CLOSE_FAST": value},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout))
    fast, plain = said
    assert fast[0] == plain[0]
    assert np.allclose(fast[1], plain[1], atol=1e-4)
    for ours, theirs in zip(fast[2:], plain[2:], strict=True):
        assert np.abs(np.array(ours) - np.array(theirs)).max() < 1e-6
