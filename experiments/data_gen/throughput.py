"""How many requests a second `data-gen captions` makes, beside what the openai client itself can do.

    python experiments/data_gen/throughput.py [--count 20000] [--concurrency 64] [--repeats 3]

A server in a process of its own answers every request at once, with a caption that depends on the request. Against it run, in
turn and each in a fresh process: `bare`, the openai client alone (`chat.completions.create` as its manual shows it, with the
same prompts, made before), and `data-gen`, the whole command: prompts, limits, parsing, filters, journal, rows. The best of
the repeats counts, since other work on the machine only ever slows a run. Memory is sampled over the run; it may grow by
the duplicate filter's few bytes a row and no more. Writes throughput.json beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from data_gen import CaptionOptions
from data_gen.run.plan import Plan

HERE = Path(__file__).resolve()
EXAMPLES = [
    f"A {a} {b} near the {c}." for a in ("dog", "cat", "bus") for b in ("stands", "waits") for c in ("park", "river")
]


class Instant(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as little of it as the client needs; the answer holds the request's seed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = int(re.search(rb"content-length: (\d+)", self.buffer[:end], re.IGNORECASE)[1])
            whole = end + 4 + length
            if len(self.buffer) < whole:
                return
            self.answer(self.buffer[end + 4 : whole])
            self.buffer = self.buffer[whole:]

    def answer(self, body: bytes) -> None:
        seed = re.search(rb'"seed": ?(\d+)', body)[1].decode()
        message = {"role": "assistant", "content": f"A dog and a cat stand near number {seed} of the park."}
        answer = {
            "id": seed,
            "object": "chat.completion",
            "created": 1,
            "model": "instant",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": len(body) // 4, "completion_tokens": 14, "total_tokens": len(body) // 4 + 14},
        }
        payload = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
        self.transport.write(head.encode() + payload)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


def options(url: str, folder: Path, count: int, concurrency: int) -> CaptionOptions:
    """Of the run that is measured; the shots and keywords come from `EXAMPLES`."""
    examples = folder / "examples.txt"
    examples.write_text("\n".join(EXAMPLES) + "\n")
    return CaptionOptions(
        out=folder / "out.jsonl", count=count, model="m", base_url=url, examples=examples, concurrency=concurrency
    )


async def bare(options: CaptionOptions) -> float:
    """Requests a second of the openai client alone."""
    import openai

    plan = Plan("captions", options)
    prompts = [plan.request(index).prompt for index in range(options.count)]
    queue = iter(prompts)
    async with openai.AsyncOpenAI(api_key="none", base_url=options.base_url, max_retries=0) as client:

        async def ask() -> None:
            for prompt in queue:
                answer = await client.chat.completions.create(
                    model="m",
                    messages=[{"role": "user", "content": prompt.text}],
                    max_tokens=prompt.max_tokens,
                    seed=prompt.seed,
                )
                assert answer.choices[0].message.content

        start = time.monotonic()
        await asyncio.gather(*(ask() for _ in range(options.concurrency)))
        return len(prompts) / (time.monotonic() - start)


def resident() -> float:
    """Megabytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def whole(options: CaptionOptions) -> dict[str, Any]:
    """The command's own run: requests a second, from the first line to the last, and memory over the run."""
    from data_gen.run import generate

    samples: list[tuple[int, float]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            rows = options.out.stat().st_size if options.out.exists() else 0
            samples.append((rows, resident()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    summary = generate("captions", options)
    done.set()
    watcher.join()
    written = [memory for size, memory in samples if size > options.out.stat().st_size * 0.1]
    return {
        "requests_per_second": summary.requests / summary.seconds,
        "accepted": summary.accepted,
        "memory_mb": {"after_a_tenth": written[0], "at_the_end": written[-1]} if written else {},
    }


def part(name: str, url: str, count: int, concurrency: int) -> Any:
    """What `bare` or `whole` says, run in a process of its own."""
    line = [sys.executable, str(HERE), "--part", name, "--url", url]
    line += ["--count", str(count), "--concurrency", str(concurrency)]
    return json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".json"))
    parser.add_argument("--part", choices=("serve", "bare", "whole"), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "serve":
        asyncio.run(serve())
    if args.part in ("bare", "whole"):
        with tempfile.TemporaryDirectory() as folder:
            told = options(args.url, Path(folder), args.count, args.concurrency)
            print(json.dumps(asyncio.run(bare(told)) if args.part == "bare" else whole(told)))
        return
    server = subprocess.Popen([sys.executable, str(HERE), "--part", "serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = server.stdout.readline().strip()
        runs: dict[str, list[Any]] = {"bare": [], "whole": []}
        for _ in range(args.repeats):
            for name, found in runs.items():
                found.append(part(name, url, args.count, args.concurrency))
                print(name, found[-1], file=sys.stderr)
    finally:
        server.kill()
    best = max(runs["whole"], key=lambda run: run["requests_per_second"])
    ceiling = max(runs["bare"])
    record = {
        "count": args.count,
        "concurrency": args.concurrency,
        "cpus": len(os.sched_getaffinity(0)),
        "openai_client_alone": ceiling,
        "data_gen": best,
        "share_of_the_client": best["requests_per_second"] / ceiling,
        "all_runs": runs,
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({key: value for key, value in record.items() if key != "all_runs"}, indent=1))


if __name__ == "__main__":
    main()
