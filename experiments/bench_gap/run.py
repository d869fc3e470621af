"""How long `measure_gap` takes, and how much memory, on random pairs of the shape of real embeddings.

    python -m experiments.bench_gap.run --rows 100000 --dim 768 --out experiments/bench_gap/results.json

Times are of the wall and of the processor; the latter hardly depends on what else runs on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from close.gap import measure_gap
from close.io.files import write_json
from close.io.versions import versions
from experiments.bench.search import OwnMemory

QUADRATIC = ("uniformity.text", "uniformity.image", "uniformity.cross", "mmd", "neighbour_agreement")
RETRIEVAL = ("recall.image_to_text.at_1", "hubness.text")


def write_side(path: Path, rows: int, dim: int, seed: int, mean: float) -> None:
    """Content that both sides share (64 directions), noise of the side's own, and a mean, as float32 in a `.npy`."""
    shared = np.random.default_rng(0)
    directions = shared.standard_normal((64, dim), dtype=np.float32)
    own = np.random.default_rng(seed)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dim))
    for start in range(0, rows, 8192):
        size = min(8192, rows - start)
        block = shared.standard_normal((size, 64), dtype=np.float32) @ directions / 8
        block += own.standard_normal((size, dim), dtype=np.float32) + mean
        out[start : start + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()


class Clock:
    """Wall and processor seconds of each step, told by `measure_gap`'s progress."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[float, float]] = {}
        self.name = "reading and checking"
        self.since = time.perf_counter(), time.process_time()

    def __call__(self, name: str) -> None:
        now = time.perf_counter(), time.process_time()
        self.steps[self.name] = now[0] - self.since[0], now[1] - self.since[1]
        print(
            f"{self.name}: {self.steps[self.name][0]:.1f} s, processor {self.steps[self.name][1]:.1f} s",
            file=sys.stderr,
        )
        self.name, self.since = name, now

    def total(self, names: tuple[str, ...]) -> dict[str, float]:
        """Sums over some steps."""
        wall, processor = (sum(self.steps[name][kind] for name in names) for kind in (0, 1))
        return {"wall_s": round(wall, 1), "processor_s": round(processor, 1)}


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--note", default="", help="what else is to be known of the run")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{side}.npy" for side in ("text", "image")]
        for path, seed, mean in zip(paths, (1, 2), (0.5, -0.5), strict=True):
            write_side(path, options.rows, options.dim, seed, mean)
        text, image = (np.load(path, mmap_mode="r") for path in paths)
        clock = Clock()
        with OwnMemory() as own:
            report = measure_gap(text, image, progress=clock)
        clock("end")
    linear = tuple(name for name in clock.steps if name not in (*QUADRATIC, *RETRIEVAL))
    record = {
        "rows": options.rows,
        "dim": options.dim,
        "linear": clock.total(linear),
        "retrieval_and_hubness": clock.total(RETRIEVAL),
        "quadratic": clock.total(QUADRATIC),
        "all": clock.total(tuple(clock.steps)),
        "own_memory_mb": own.peak,
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "machine": {"cores": os.cpu_count(), "arch": platform.machine(), "load_before": round(load, 1)},
        "versions": {"python": platform.python_version(), **versions()},
        "note": options.note,
        "steps_s": {name: [round(value, 2) for value in times] for name, times in clock.steps.items()},
        "sampled": {name: note for name, note in report.notes.items() if "drawn" in note},
    }
    write_json(options.out, record)
    print(json.dumps({key: record[key] for key in ("linear", "retrieval_and_hubness", "quadratic", "own_memory_mb")}))


if __name__ == "__main__":
    main()
