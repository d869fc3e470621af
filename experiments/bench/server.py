"""`close serve` under load: 64 clients, a picture a request, beside the model alone at the same batch (experiments/serve)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import close
from experiments.bench.cold import mini_run
from experiments.bench.parts import Timed, Variants
from experiments.serve.load import at_once, bare, pictures, processor_seconds, server

BATCH = 32
SIZES = {"full": (384, 400, 300), "small": (64, 20, 20)}
"""Pictures of a round; scenes and steps of the run's training."""


@contextmanager
def served(folder: Path, size: str) -> Iterator[Variants]:
    """The floor is the model alone in this process, which is given all pictures at once."""
    count, scenes, steps = SIZES[size]
    run = str(mini_run(folder, scenes, steps))
    given, captioner = pictures(count, 0), close.load(run)

    def alone(number: int) -> Timed:
        before = processor_seconds(os.getpid())
        rate = bare(captioner, given, BATCH)
        return count / rate, count, {"processor_ms": 1000 * (processor_seconds(os.getpid()) - before) / count}

    with server(run, BATCH) as (url, pid):

        def asked(number: int) -> Timed:
            before = processor_seconds(pid)
            rate = asyncio.run(at_once(url, given, 2 * BATCH))
            return count / rate, count, {"processor_ms": 1000 * (processor_seconds(pid) - before) / count}

        yield {"auto": asked, "floor_auto": alone}
