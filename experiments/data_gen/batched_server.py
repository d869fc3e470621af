"""The embedded language model behind the same API as `data-gen serve-mini`, many requests to a batch.

    python experiments/data_gen/batched_server.py [--port 8001] [--batch 128]

`transformers serve` answers one request after the other on a CPU, which takes too long for the tens of thousands of captions
that the experiments need. This server speaks the part of the chat and legacy completions API that data-gen uses. A request's
randomness comes from its own `seed`, so its answer depends on itself alone (up to the rounding of batched sums). An
answer is one line. It ends when its standard input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from transformers import AutoModelForCausalLM, AutoTokenizer

import data_gen
from data_gen.mini.serve import MODEL

FOLDER = Path(data_gen.__file__).parent / "mini" / MODEL
Request = tuple[dict[str, Any], "asyncio.Future[tuple[str, int, int]]"]


class Generator:
    """Samples the continuations of several prompts at once."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        lines = {number for token, number in self.tokenizer.get_vocab().items() if "Ċ" in token}  # byte-level "\n"
        self._temperature = self.model.generation_config.temperature or 1.0
        self._ends = {self.tokenizer.eos_token_id, *lines}

    @torch.inference_mode()
    def __call__(self, bodies: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
        """Text, prompt tokens and answer tokens of each request."""
        prompts = [body["prompt"] if "prompt" in body else body["messages"][-1]["content"] for body in bodies]
        draws = [random.Random(body.get("seed")) for body in bodies]
        heat = torch.tensor([[body.get("temperature") or self._temperature] for body in bodies])
        given = self.tokenizer(prompts, return_tensors="pt", padding=True)
        said: list[list[int]] = [[] for _ in bodies]
        ids, mask, cache, rows = given["input_ids"], given["attention_mask"], None, list(range(len(bodies)))
        while rows:
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=_positions(mask, ids),
                past_key_values=cache,
                logits_to_keep=1,
            )
            cache, sums = out.past_key_values, (out.logits[:, -1] / heat[rows]).softmax(-1).cumsum(-1)
            at = torch.tensor([[draws[row].random()] for row in rows]) * sums[:, -1:]
            ids = torch.searchsorted(sums, at).clamp(max=sums.shape[1] - 1)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            for row, token in zip(rows, ids[:, 0].tolist(), strict=True):
                said[row].append(token)
            left = [n for n, row in enumerate(rows) if not self._ended(said[row], bodies[row])]
            if len(left) < len(rows):  # those that have ended leave the batch
                cache.batch_select_indices(torch.tensor(left, dtype=torch.long))
                ids, mask, rows = ids[left], mask[left], [rows[n] for n in left]
        texts = self.tokenizer.batch_decode(said, skip_special_tokens=True)
        before = given["attention_mask"].sum(1).tolist()
        return [
            (text.split("\n")[0], number, len(tokens)) for text, number, tokens in zip(texts, before, said, strict=True)
        ]

    def _ended(self, tokens: list[int], body: dict[str, Any]) -> bool:
        return tokens[-1] in self._ends or len(tokens) >= (body.get("max_tokens") or 64)


def _positions(mask: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]


def application(generator: Generator, most: int) -> FastAPI:
    """The server: requests wait in a line, and whatever waits is answered together."""
    app, line = FastAPI(), asyncio.Queue[Request]()

    async def work() -> None:
        while True:
            waiting = [await line.get()]
            await asyncio.sleep(0.005)  # for those that were sent together
            while len(waiting) < most and not line.empty():
                waiting.append(line.get_nowait())
            answers = await asyncio.to_thread(generator, [body for body, _ in waiting])
            for (_, future), answer in zip(waiting, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def ask(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if not hasattr(app.state, "worker"):
            app.state.worker = asyncio.create_task(work())
        future: asyncio.Future[tuple[str, int, int]] = asyncio.get_running_loop().create_future()
        await line.put((body, future))
        text, before, after = await future
        usage = {"prompt_tokens": before, "completion_tokens": after, "total_tokens": before + after}
        return text, {"id": "batched", "created": 0, "model": MODEL, "usage": usage}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}

    @app.post("/v1/chat/completions")
    async def chat(body: dict[str, Any]) -> dict[str, Any]:
        text, rest = await ask(body)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        return {"object": "chat.completion", "choices": [choice], **rest}

    @app.post("/v1/completions")
    async def completions(body: dict[str, Any]) -> dict[str, Any]:
        text, rest = await ask(body)
        return {"object": "text_completion", "choices": [{"index": 0, "finish_reason": "stop", "text": text}], **rest}

    return app


@contextmanager
def running(port: int = 8001) -> Iterator[str]:
    """The URL of a server in a process of its own, for as long as the block lasts."""
    line = [sys.executable, __file__, "--port", str(port)]
    url = f"http://127.0.0.1:{port}/v1"
    process = subprocess.Popen(line, stdin=subprocess.PIPE)
    try:
        while not _answers(f"{url}/models"):
            if process.poll() is not None:
                raise SystemExit(f"the server at port {port} ended; is the port in use?")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--batch", type=int, default=128)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    server = uvicorn.Server(
        uvicorn.Config(application(Generator(FOLDER), args.batch), port=args.port, log_level="warning")
    )
    threading.Thread(target=lambda: (sys.stdin.read(), setattr(server, "should_exit", True)), daemon=True).start()
    server.run()


if __name__ == "__main__":
    main()
