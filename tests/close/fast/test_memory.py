"""Memory that is kept between steps."""

import subprocess
import sys

import pytest

from close.fast.memory import glibc

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
