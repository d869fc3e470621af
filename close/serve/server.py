"""Listening, until a signal ends it."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from close.errors import CloseError, RecipeError
from close.runs.folder import check_run
from close.serve.limits import Limits

__all__ = ["KEY", "serve"]

KEY = "CLOSE_SERVE_KEY"
"""The environment's variable that holds the key."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

_log = logging.getLogger(__name__)


def serve(
    runs: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    ready: Callable[[str, list[dict[str, Any]]], None] | None = None,
    **loading: Any,
) -> None:
    """Serve finished runs, until SIGINT or SIGTERM; what was begun by then is finished first.

    Where the environment's `CLOSE_SERVE_KEY` is set, requests have to bring it (`Authorization: Bearer …`).

    Args:
        host, port: where to listen; port 0 is any free one. ready: called with the server's address and the runs, as
            `GET /v1/runs` has them, once it listens.
        loading: of `close.load`.
    Raises:
        RecipeError: the extra `serve` is not installed, or that is no place to listen.
        CloseError: a run can't be loaded.
    """
    missing = [name for name in ("fastapi", "uvicorn") if not importlib.util.find_spec(name)]
    if missing:
        raise RecipeError(f"close serve needs {', '.join(missing)}: pip install 'close-toolkit[serve]'")
    limits = limits or Limits()
    with _listening(host, port) as taken:  # before anything is loaded, which takes longer
        for run in runs:
            check_run(run)
        from PIL import Image

        from close.serve.app import application
        from close.serve.desk import Desk
        from close.serve.served import load_runs

        Image.MAX_IMAGE_PIXELS = limits.pixels
        key = os.environ.get(KEY) or None
        local = taken.getsockname()[0] in ("127.0.0.1", "::1")
        if not local and key is None:
            _log.warning(
                "whoever reaches %s can use this server; set %s to a key, so that only those who have it can", host, KEY
            )
        desk = Desk(load_runs(runs, **loading), limits)
        named = f"[{host}]" if ":" in host else host
        hosts = {*LOOPBACK, named.lower()} if local else None
        address = f"http://{named}:{taken.getsockname()[1]}"
        _run(
            application(desk, limits, key=key, hosts=hosts),
            taken,
            limits,
            lambda: ready and ready(address, desk.listed()),
        )


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens: another server is refused from now on, and who comes early waits until this one is ready."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise RecipeError(f"can't listen at {host}:{port}: {reason}; give another --host or --port") from None
    return taken


def _run(app: Any, taken: socket.socket, limits: Limits, ready: Callable[[], Any]) -> None:
    """uvicorn, until a signal: it closes the door, lets answers go out, and returns."""
    import uvicorn

    from close.serve.protocol import patient

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        app,
        http=patient(limits.upload),
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(limits.seconds) + 5,
    )
    server = Server(config)

    def stop(
        *_: Any,
    ) -> None:  # uvicorn has handlers of its own while it runs, and raises what it caught again afterwards
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[taken])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if not server.started:
        raise CloseError("the server did not start; what it said above tells why")
