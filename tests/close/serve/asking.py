"""A served run, and a client as plain as they come."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 120.0


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one line that is told; nothing else may be."""
        assert set(self.json) == {"error"}, self.body
        line: str = self.json["error"]
        assert line
        assert "\n" not in line
        return line


@dataclass
class Client:
    """Of the server at an address."""

    url: str

    def __call__(
        self, path: str, values: Any = None, *, files: Any = None, body: bytes | None = None, **headers: str
    ) -> Answer:
        """GET, or POST of JSON values, of a form with files [(name, bytes)], or of a body as it is."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if files is not None:
            headers["Content-Type"], body = form(files, values or {})
        elif values is not None:
            headers["Content-Type"], body = "application/json", json.dumps(values).encode()
        place = urlsplit(self.url)
        connection = HTTPConnection(place.hostname or "", place.port or 0, timeout=PATIENCE)
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def holds(self, count: int) -> None:
        """Return when the server holds so many items."""
        wait_until(lambda: self("/healthz").json["held"] == count)


def form(files: Any, values: dict[str, Any]) -> tuple[str, bytes]:
    """Type and body of multipart/form-data."""
    mark, parts = uuid.uuid4().hex, list[bytes]()
    for name, data in files:
        parts.append(f'Content-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'.encode() + data)
    for name, value in values.items():
        for each in value if isinstance(value, list) else [value]:
            parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{each}'.encode())
    body = b"".join(f"--{mark}\r\n".encode() + part + b"\r\n" for part in parts) + f"--{mark}--\r\n".encode()
    return f"multipart/form-data; boundary={mark}", body


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


class Asking(threading.Thread):
    """A request on its way; `answer` when it is there."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self._answer: Answer | None = None
        self.start()

    def run(self) -> None:
        self._answer = self._ask()

    @property
    def answer(self) -> Answer:
        self.join(PATIENCE)
        assert self._answer is not None
        return self._answer


@contextmanager
def serving(runs: Any, limits: Any, *, key: str | None = None, hosts: Any = None) -> Iterator[tuple[Client, Any]]:
    """A client of uvicorn in a thread, and the desk behind it; `runs` are folders, or served runs by name."""
    import uvicorn

    from close.serve.app import application
    from close.serve.desk import Desk
    from close.serve.protocol import patient
    from close.serve.served import load_runs

    desk = Desk(runs if isinstance(runs, dict) else load_runs(runs, device="cpu"), limits)
    app = application(desk, limits, key=key, hosts=hosts)
    config = uvicorn.Config(app, port=0, http=patient(limits.upload), log_level="critical", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Client(f"http://127.0.0.1:{port}"), desk
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
