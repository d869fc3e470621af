"""Requests a second of `close serve` beside the bare model at the same batch, and how long an answer takes at half load.

    python experiments/serve/load.py RUN [--requests 320] [--rounds 3] [--batch-size 32] [--seed 0] [--out results.json]
    python experiments/serve/load.py --real --requests 64 --batch-size 8 --out real.json    # ViT-L/14 and T5-base, photos

The bare model is the run in this process, given the same pictures as bytes, `batch-size` at once. The server is a process of its
own; 2 × `batch-size` clients ask for one picture each, again and again (rounds of both follow each other, so that what else the
machine does meets both). What either computes is counted too, as the system counts it: on a machine that others use, that is the
steadier figure (give OMP_NUM_THREADS=1 there, since threads that wait count as well). Half load: requests arrive at random, on
average at half of the rate that was reached. RUN has to be of the embedded world, whose test pictures are drawn; `--real`
makes one of the size that people use, with random weights, and asks it about JPEG files of 640 × 480.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import close
from close.io.files import write_json
from close.io.record import stamp
from close.mini import draw, scenes

BOUNDARY = "e7c1b0d4"


def pictures(count: int, seed: int) -> list[bytes]:
    """PNG files of test scenes."""
    found = []
    for scene in scenes("test", count, seed):
        file = io.BytesIO()
        draw(scene).save(file, "PNG")
        found.append(file.getvalue())
    return found


def real(folder: Path, count: int) -> tuple[str, list[bytes]]:
    """A run of ViT-L/14 and T5-base, one step old, and photos."""
    from close.runs.recipe import Recipe
    from close.training.train import train
    from experiments.bench.models import build

    made = build(folder / "models", "full", captions=16, photos=count)
    values = {"data": {"train": str(made.data)}, "encoder": made.checkpoint, "language_model": str(made.language_model)}
    train(Recipe.model_validate(values | {"training": {"max_steps": 1, "batch_size": 16}}), folder / "run")
    return str(folder / "run"), [photo.read_bytes() for photo in made.photos]


@contextmanager
def server(run: str, batch_size: int) -> Iterator[tuple[str, int]]:
    """The address and the process of `close serve`."""
    command = [sys.executable, "-m", "close", "serve", run, "--port", "0", "--batch-size", str(batch_size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            line = running.stdout.readline()
            if not line:
                raise SystemExit("the server did not start")
            yield line.split()[-1], running.pid
        finally:
            running.terminate()


def request(picture: bytes, host: str) -> bytes:
    """A form with one picture, as it goes over the wire."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'.encode()
    body = head + picture + f"\r\n--{BOUNDARY}--\r\n".encode()
    about = f"POST /v1/caption HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    return f"{about}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One client's connection, kept for its next request."""

    def __init__(self, url: str) -> None:
        self.place = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, picture: bytes) -> float:
        """Seconds until the answer was there."""
        started = time.perf_counter()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.place.hostname, self.place.port)
        reader, writer = self._streams
        writer.write(request(picture, self.place.netloc))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = head.split(" ", 2)[1]
        answer = json.loads(await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0])))
        if status != "200" or answer["outputs"][0]["error"]:
            raise SystemExit(f"{status}: {answer}")
        return time.perf_counter() - started

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()


async def at_once(url: str, given: Sequence[bytes], clients: int) -> float:
    """Requests a second of so many clients, each asking again when it has its answer."""
    left = list(given)

    async def client() -> None:
        connection = Connection(url)
        while left:
            await connection.ask(left.pop())
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return len(given) / (time.perf_counter() - started)


async def arriving(url: str, given: Sequence[bytes], rate: float, seed: int) -> list[float]:
    """Seconds of requests that arrive at random, `rate` a second, each on a connection of its own."""
    rng = random.Random(seed)

    async def one(picture: bytes) -> float:
        connection = Connection(url)
        took = await connection.ask(picture)
        connection.close()
        return took

    asked, due = [], time.perf_counter()
    for picture in given:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(one(picture)))
    return list(await asyncio.gather(*asked))


def bare(captioner: Any, given: Sequence[bytes], batch_size: int) -> float:
    """Pictures a second of the model alone."""
    started = time.perf_counter()
    captioner(list(given), batch_size=batch_size)
    return len(given) / (time.perf_counter() - started)


def processor_seconds(pid: int) -> float:
    """What a process has computed so far, on all cores; NaN where the system keeps no such file."""
    about = Path(f"/proc/{pid}/stat")
    if not about.is_file():
        return float("nan")
    fields = about.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(run: str, given: Sequence[bytes], rounds: int, batch_size: int, seed: int) -> dict[str, Any]:
    """All figures."""
    requests = len(given)
    captioner = close.load(run)
    bare(captioner, given[:batch_size], batch_size)
    found: dict[str, list[float]] = {"bare": [], "served": []}
    spent: dict[str, list[float]] = {"bare": [], "served": []}
    with server(run, batch_size) as (url, pid):
        asyncio.run(at_once(url, given[: 2 * batch_size], batch_size))
        for _ in range(rounds):
            before = processor_seconds(os.getpid())
            found["bare"].append(bare(captioner, given, batch_size))
            spent["bare"].append(processor_seconds(os.getpid()) - before)
            before = processor_seconds(pid)
            found["served"].append(asyncio.run(at_once(url, given, 2 * batch_size)))
            spent["served"].append(processor_seconds(pid) - before)
        rate = statistics.median(found["served"])
        took = asyncio.run(arriving(url, given, rate / 2, seed))
    shares = [served / alone for served, alone in zip(found["served"], found["bare"], strict=True)]
    return {
        "pictures_a_second": {name: [round(one, 1) for one in values] for name, values in found.items()},
        "served_over_bare": {
            "each_round": [round(one, 3) for one in shares],
            "median": round(statistics.median(shares), 3),
        },
        "processor_milliseconds_a_picture": {
            name: [round(1000 * one / requests, 2) for one in values] for name, values in spent.items()
        },
        "half_load": {
            "requests_a_second": round(rate / 2, 1),
            "milliseconds": {f"p{q}": round(1000 * float(np.percentile(took, q)), 1) for q in (50, 90, 99)},
        },
        "settings": {
            "requests": requests,
            "rounds": rounds,
            "batch_size": batch_size,
            "clients": 2 * batch_size,
            "seed": seed,
        },
        "machine": {
            "cores": os.cpu_count(),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "processor": platform.machine(),
            "load_average": os.getloadavg(),
        },
        **stamp(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?")
    parser.add_argument("--real", action="store_true", help="make a run of the size that people use")
    for name, default in (("requests", 320), ("rounds", 3), ("batch-size", 32), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if bool(args.run) == args.real:
        parser.error("give a run, or --real")
    with TemporaryDirectory() as folder:
        run, given = real(Path(folder), args.requests) if args.real else (args.run, pictures(args.requests, args.seed))
        found = measure(run, given, args.rounds, args.batch_size, args.seed)
    print(json.dumps(found, indent=2))
    if args.out:
        write_json(args.out, found)


if __name__ == "__main__":
    main()
