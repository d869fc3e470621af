"""How large an answer may be. What is larger is not read to its end, whatever the server says of its size."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["MOST_BYTES", "TooLargeError", "bound"]

MOST_BYTES = 8 << 20
"""Of one answer; 4,096 tokens are some 20 kB."""


class TooLargeError(Exception):
    """An answer has more bytes than it may have, or comes in a form in which nobody can tell."""


def bound(response: Any, most: int) -> None:
    """Make a response fail when more than `most` bytes of it were read, unpacked.

    Args:
        response: of the HTTP client, before its body is read.
        most: bytes.

    Raises:
        TooLargeError: the body is packed in a way that was not asked for.
    """
    packed = response.headers.get("content-encoding", "").strip().lower()
    if packed not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise TooLargeError(f"the answer comes as {packed[:20]!r}, which was not asked for")
    if "content-encoding" in response.headers:
        del response.headers["content-encoding"]  # unpacked here, where it can be stopped
    response.headers["content-type"] = "application/json; charset=utf-8"  # no other encoding is JSON
    # the base class is that of whichever HTTP library the openai package is built on
    library = importlib.import_module(type(response).__module__.partition(".")[0])
    bounded = type("Bounded", (_Bounded, library.AsyncByteStream), {})
    response.stream = bounded(response.stream, most, packed in ("gzip", "x-gzip", "deflate"))


class _Bounded:
    def __init__(self, stream: Any, most: int, packed: bool) -> None:
        self._stream, self._most, self._packed = stream, most, packed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._most
        unpack = zlib.decompressobj(wbits=47) if self._packed else None  # gzip or zlib, by its head
        async for chunk in self._stream:
            try:
                part = unpack.decompress(chunk, left + 1) if unpack else chunk
            except zlib.error:
                raise TooLargeError("the answer is packed, and broken") from None
            left -= len(part)
            if left < 0:
                raise TooLargeError(f"the answer has more than {self._most >> 20} MB")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
