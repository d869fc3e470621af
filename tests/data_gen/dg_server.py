"""A real HTTP server on loopback for the tests: it answers well, or does everything that a server must not do.

What a request gets is decided by a function of its body alone, and of how often the same body came before.
"""

import asyncio
import hashlib
import json
import re
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NOUNS = ["dog", "cat", "bus", "horse", "kite", "train", "pizza", "boat", "tree", "lamp", "bench", "child"]
VERBS = ["runs", "sleeps", "waits", "stands", "falls", "shines", "turns", "jumps"]
PLACES = ["park", "street", "kitchen", "river", "garden", "station", "field", "harbour"]


@dataclass
class Do:
    """What to do with a request."""

    text: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None  # the body, in place of a well-formed one
    reset: bool = False
    cut: int | None = None  # bytes of the body that are sent before the connection is closed
    delay: float = 0.0
    drip: float = 0.0  # seconds between bytes
    finish: str = "stop"
    message: dict[str, Any] = field(default_factory=dict)  # of the message, beside or in place of its content


def digest(body: dict[str, Any]) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()[:8], "big")


def prompt_of(body: dict[str, Any]) -> str:
    return body["prompt"] if "prompt" in body else body["messages"][0]["content"]


def asked_keywords(body: dict[str, Any]) -> list[str]:
    return re.findall(r"keywords: (.*)\n", prompt_of(body))[-1].split(", ")


def caption(body: dict[str, Any]) -> str:
    """A caption that depends on the request only; with few words, so that duplicates come."""
    bits = digest(body)
    noun, verb, place = NOUNS[bits % 12], VERBS[bits // 12 % 8], PLACES[bits // 96 % 8]
    return f"A {noun} with a {' and a '.join(asked_keywords(body))} {verb} near the {place}."


class Server:
    """Runs in a thread of its own. `seen` counts requests by body; `bodies` and `headers` keep the last ones."""

    def __init__(self, decide: Callable[[dict[str, Any], int], Do], port: int = 0) -> None:
        self.decide = decide
        self.seen: Counter[int] = Counter()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.most_under_way = self._under_way = 0
        self._socket = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self.routes: dict[str, Callable[[str, dict[str, str], bytes], tuple[int, bytes]]] = {}

    def __enter__(self) -> "Server":
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)
        self._socket.close()

    def _run(self, ready: threading.Event) -> None:
        self._loop.run_until_complete(self._main(ready))
        self._loop.close()

    async def _main(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._serve, sock=self._socket)
        ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = first.split(" ")
        self.requests.append((f"{method} {path}", headers, content))
        for pattern, route in self.routes.items():
            if re.fullmatch(pattern, f"{method} {path}"):
                status, answer = route(f"{method} {path}", headers, content)
                await self._send(writer, Do(status=status, raw=answer), b"")
                return True
        body = json.loads(content)
        key = digest(body)
        do = self.decide(body, self.seen[key])
        self.seen[key] += 1
        self._under_way += 1
        self.most_under_way = max(self.most_under_way, self._under_way)
        try:
            await asyncio.sleep(do.delay)
            return await self._send(writer, do, _answer(body, do))
        finally:
            self._under_way -= 1

    async def _send(self, writer: asyncio.StreamWriter, do: Do, answer: bytes) -> bool:
        if do.reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        payload = answer if do.raw is None else do.raw
        head = [f"HTTP/1.1 {do.status} X", "content-type: application/json", f"content-length: {len(payload)}"]
        head += [f"{k}: {v}" for k, v in do.headers.items()]
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        if do.drip:
            for i in range(len(payload)):
                if writer.transport.is_closing():
                    return False
                writer.write(payload[i : i + 1])
                await asyncio.sleep(do.drip)
        else:
            writer.write(payload[: do.cut])
        await writer.drain()
        return do.cut is None


def _answer(body: dict[str, Any], do: Do) -> bytes:
    usage = {"prompt_tokens": len(prompt_of(body)) // 4, "completion_tokens": 10, "total_tokens": 0}
    text = do.text or ""
    told = {"message": {"role": "assistant", "content": text, **do.message}}
    choice = {"index": 0, "finish_reason": do.finish, **({"text": text} if "prompt" in body else told)}
    return json.dumps({"id": "x", "object": "x", "model": "served", "choices": [choice], "usage": usage}).encode()


def good(body: dict[str, Any], before: int) -> Do:
    return Do(caption(body), delay=digest(body) % 7 / 2000)


if __name__ == "__main__":  # for tests that kill the client: the server lives in a process of its own
    with Server(good, int(sys.argv[1])) as server:
        print(server.url, flush=True)
        sys.stdin.read()
