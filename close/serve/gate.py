"""What every request passes before it is looked at: host, key, bytes, time."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from close.serve.limits import Limits, RefusedError

__all__ = ["Gate", "GoneError", "tell"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = logging.getLogger(__name__)
OPEN = ("/", "/healthz", "/openapi.json")
"""What is shown without a key: it holds nothing of a run."""


class GoneError(Exception):
    """The client has cut the connection; nobody is left to tell."""


async def tell(send: Send, status: int, message: str, headers: dict[str, str] | None = None) -> None:
    """An error, as every one is told: `{"error": "one line"}`."""
    body = json.dumps({"error": message}, ensure_ascii=False).encode("utf-8", "replace")
    given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = [(name.lower().encode(), value.encode()) for name, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


@dataclass
class _Upload:
    """A request's body as it comes in: its bytes so far, and whether that is all."""

    receive: Receive
    took: int = 0
    whole: bool = False

    async def next(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        piece: bytes = message.get("body", b"")
        self.took += len(piece)
        self.whole = not message.get("more_body")
        return piece


class Gate:
    """An ASGI application around another, to which it hands whole requests within the limits.

    Args:
        key: what `Authorization: Bearer …` has to say; None where anyone may ask. hosts: names that a request may call this
            server by, so that a stranger's page can't (DNS rebinding); None: any. What a browser sends for a stranger's page is
            refused too, where there is no key, which such a page does not have.
    """

    def __init__(self, app: Any, limits: Limits, *, key: str | None, hosts: Iterable[str] | None) -> None:
        self.app, self.limits = app, limits
        self.key, self.hosts = key, None if hosts is None else set(hosts)
        self.held = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        upload, began = _Upload(receive), False

        async def sent(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            self._check(scope)
            body = await self._body(scope, upload)
            await self.app(scope, _replayed(body, receive), sent)
        except GoneError:
            return
        except RefusedError as refused:
            await self._drain(upload)
            await tell(send, refused.status, str(refused), {"Connection": "close", **refused.headers})
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            if not began:
                await tell(send, 500, "this server failed at it; its log says more")
        finally:
            self.held -= upload.took

    def _check(self, scope: Any) -> None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if self.hosts is not None and name.lower() not in self.hosts:
            raise RefusedError(421, "this server answers to " + ", ".join(sorted(self.hosts)) + " alone")
        if self.key is None and scope["method"] == "POST" and _is_of_another_page(headers):
            raise RefusedError(
                403, "this server does nothing for a page of another site; ask it by program, or by its own page"
            )
        if self.key is None or scope["path"] in OPEN:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self.key.encode()):
            raise RefusedError(401, "this server wants its key: Authorization: Bearer KEY")

    async def _body(self, scope: Any, upload: _Upload) -> bytes:
        most, chunks = self.limits.bytes, list[bytes]()
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > most:
            raise _too_much(most)
        try:
            async with asyncio.timeout(self.limits.upload):
                while not upload.whole:
                    chunks.append(await upload.next())
                    self.held += len(chunks[-1])
                    if upload.took > most:
                        raise _too_much(most)
                    if self.held > self.limits.held:
                        raise RefusedError(503, "busy: too much is being sent to this server at once", again=1)
        except TimeoutError:
            raise RefusedError(408, f"the request took more than {self.limits.upload:g} s to come in") from None
        return b"".join(chunks)

    async def _drain(self, upload: _Upload) -> None:
        """Read on for a moment, and keep nothing: who still sends would not see the answer."""
        kept, most = upload.took, upload.took + self.limits.bytes
        with suppress(TimeoutError, GoneError):
            async with asyncio.timeout(min(2.0, self.limits.upload)):
                while not upload.whole and upload.took < most:
                    await upload.next()
        upload.took = kept


def _is_of_another_page(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser asks, for a page that is not this server's own; programs say nothing of it."""
    if (site := headers.get(b"sec-fetch-site")) is not None:
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin")  # of older browsers, or where there is no TLS
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


def _too_much(most: int) -> RefusedError:
    return RefusedError(413, f"a request has at most {most:,} bytes here; send fewer or smaller pictures")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` of an application that is given the whole body at once, and then what comes."""
    waiting = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": waiting.pop(), "more_body": False} if waiting else await receive()

    return again
