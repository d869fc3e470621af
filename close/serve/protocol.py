"""Connections that say nothing, or say it too slowly, are closed."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["patient"]


def patient(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, whose clients have so long to say what they want; bodies are the gate's affair."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._unwatch()

        def _watch(self) -> None:
            """The time runs from a request's first byte, or from the connection's beginning, to its head's end."""
            if self.conn.their_state is not h11.IDLE:
                self._unwatch()
            elif self._waiting is None:
                self._waiting = self.loop.call_later(seconds, self.transport.close)

        def _unwatch(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return Patient
