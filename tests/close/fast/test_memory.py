"""Memory that is kept between steps."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from close.encoders import load_encoder
from close.fast import memory
from close.fast.memory import glibc, in_cache
from close.fast.precision import LARGE

STEPS = """
import resource, torch
from close.fast.memory import kept_memory

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        blocks = [torch.zeros(10_000_000 + 1000 * i) for i in range(3)]  # 40 MB each: more than glibc keeps by itself
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20

faults(2)
start, plain = resident(), faults(30)
with kept_memory():
    with kept_memory():
        faults(5)
    kept, held = faults(30), resident()
after = resident()
print(plain, kept, start, held, after)
"""


@pytest.mark.skipif(glibc() is None, reason="the C library is not glibc")
def test_kept_memory_is_not_faulted_in_again_and_goes_back_afterwards():
    run = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=300, check=True)
    plain, kept, start, held, after = map(int, run.stdout.split())
    assert kept < plain / 5
    assert held > start + 80
    assert after < start + 40


def test_a_large_towers_rows_come_in_parts_that_fit_the_caches_and_give_the_same(monkeypatch):
    encoder = load_encoder("mini", device="cpu")
    texts = [" ".join(["a red circle"] * (1 + i % 7)) for i in range(40)]
    pictures = [
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)) for i in range(9)
    ]

    def counted(sizes, tower, inputs):
        sizes.append(len(next(iter(inputs.values()))))
        return tower(inputs)

    whole = encoder.encode_text(texts), encoder.encode_image(pictures)
    seen = {"text_tower": [], "image_tower": []}
    for name in seen:
        monkeypatch.setattr(encoder, name, partial(counted, seen[name], getattr(encoder, name)))
    encoder.encode_text(texts), encoder.encode_image(pictures)
    assert seen == {"text_tower": [40], "image_tower": [9]}  # a small one's rows fit as they are
    monkeypatch.setattr(memory, "LARGE", 0)
    monkeypatch.setattr(memory, "_CACHED", 2**15)
    parts = encoder.encode_text(texts), encoder.encode_image(pictures)
    assert [sum(sizes) for sizes in seen.values()] == [80, 18]
    assert all(max(sizes[1:]) < sizes[0] for sizes in seen.values())
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole, parts, strict=True))
    monkeypatch.setenv("CLOSE_FAST", "0")
    encoder.encode_text(texts)
    assert seen["text_tower"][-1] == 40


@pytest.mark.parametrize("numbers", [20 * 768, 77 * 768, 3 * 224 * 224])
@pytest.mark.parametrize("rows", [1, 7, 100, 255, 256])
def test_parts_for_the_caches_are_alike(rows, numbers):
    size = in_cache(rows, numbers, LARGE, torch.device("cpu"))
    parts = -(-rows // size)
    assert size == -(-rows // parts)  # no smaller one makes as few
    assert size == 1 or (size - 1) * numbers < memory._CACHED
    assert size == rows or (parts - 1) * memory._CACHED < rows * numbers  # as few as fit
    assert in_cache(rows, numbers, LARGE - 1, torch.device("cpu")) == rows
    assert in_cache(rows, numbers, LARGE, torch.device("cuda")) == rows
