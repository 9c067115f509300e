"""The server: uvicorn in the running event loop, with bounds on what a client may keep open."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tapescope.errors import CannotListen
from tapescope.http.api.app import begin_drain, prepare_answers
from tapescope.model.internals import ConnectionAbort, Refusal
from tapescope.store.validation import check_whole

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

    from tapescope.http.api.state import ApiState
    from tapescope_telemetry.serving import ServerMeter

__all__ = ["ApiServer"]

_HEAD_WITHIN: Final = 10.0
"""Seconds in which a client sends the head of a request, from its first byte or the connection."""
_CONNECTIONS: Final = 2_000
"""At once; one more is answered with 503."""
_BACKLOG: Final = 512
_DRAIN: Final = 10
"""Seconds in which requests may come to their end once the server is told to stop."""


class _Protocol(H11Protocol):
    """uvicorn's, with a time for a request's head, and a way to hang up on a reader."""

    meter: ServerMeter
    _slow: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._answers:
            self._await_head()

    def handle_events(self) -> None:
        before = self.cycle
        full = max(len(self.connections), len(self.tasks)) >= (self.limit_concurrency or math.inf)
        super().handle_events()
        if full and self.cycle is not before:  # uvicorn answers it, with 503
            self.meter.refused(Refusal.TOO_MANY)
        if self._answers:
            self._head_came()
            # The request's task has not begun: it sees what is put here.
            extensions: dict[str, Any] = self.scope.setdefault("extensions", {})
            extensions["tapescope.abort"] = self.transport.abort

    @property
    def _answers(self) -> bool:
        """Whether a request has come that is not answered to its end."""
        cycle = cast("RequestResponseCycle | None", self.cycle)  # uvicorn says that there is one
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        if self._slow is None and not self.transport.is_closing():
            self._slow = self.loop.call_later(_HEAD_WITHIN, self._hang_up)

    def _hang_up(self) -> None:
        self.meter.aborted(ConnectionAbort.NO_HEAD)
        self.transport.abort()

    def _head_came(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None


def _make_protocol(metered_by: ServerMeter) -> type[_Protocol]:
    """uvicorn makes its protocols by itself: this one knows where to count."""

    class Protocol(_Protocol):
        meter = metered_by

    return Protocol


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the program."""
        yield


class ApiServer:
    """Serves an application on one address, from ``listen`` to the end of ``serve``."""

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        *,
        root_path: str = "",
        trusted_proxies: str = "127.0.0.1,::1",
    ) -> None:
        """Bind nothing yet. Port 0 takes a free port.

        ``root_path`` is what a proxy in front strips from the path. ``X-Forwarded-For`` and
        ``-Proto`` count from ``trusted_proxies`` alone, addresses or networks with commas between.
        Raises ``BadSetting``.
        """
        self.host = host
        self.port = check_whole("port", port, "a port from 0 to 65535", 0, 65_535)
        self._app = app
        self._socket: socket.socket | None = None
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=_make_protocol(cast("ApiState", app.state.tapescope).meter),
                ws="none",
                loop="none",
                lifespan="off",
                log_config=None,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                root_path=root_path,
                proxy_headers=True,
                forwarded_allow_ips=trusted_proxies,
                limit_concurrency=_CONNECTIONS,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_DRAIN,
            )
        )

    @property
    def url(self) -> str:
        """The URL that it listens on, without a path."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def listen(self) -> None:
        """Take the port; clients wait until it is served. Raises ``CannotListen``."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # The protocol is named, or the loop leaves Nagle's algorithm on for connections: a body,
        # which is sent after its head, would wait for the client's acknowledgement, up to 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.host, self.port))
            listening.listen(_BACKLOG)
        except (OSError, UnicodeError) as error:  # the latter for a host that is not a valid name
            listening.close()
            cause = getattr(error, "strerror", None) or str(error)
            raise CannotListen(
                self.host, self.port, cause, option="--port", what="The API"
            ) from error
        listening.setblocking(False)
        self._socket = listening
        self.port = listening.getsockname()[1]

    async def prepare(self) -> None:
        """Make beside the event loop what the first answers would wait for; ``serve`` does without.

        A process does it once."""
        await asyncio.to_thread(prepare_answers, self._app)

    async def serve(self) -> None:
        """Answer until ``drain``; returns when the last answer is sent."""
        assert self._socket is not None, "listen() comes first"
        state = cast("ApiState", self._app.state.tapescope)
        reading = asyncio.ensure_future(state.trend.keep(state.manager.store))
        try:
            await self._server.serve([self._socket])
        finally:
            reading.cancel()
            await asyncio.wait((reading,))

    def drain(self) -> None:
        """Take no more requests, and end the streams with a frame that says so."""
        begin_drain(self._app)
        self._server.should_exit = True

    def hurry(self) -> None:
        """Wait for no answer any more."""
        self.drain()
        self._server.force_exit = True

    def close(self) -> None:
        """Give the port back where nothing was served. May be called twice."""
        if self._socket is not None:
            self._socket.close()
