"""A TCP proxy before a PostgreSQL server that loses what the network can lose."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Loss", "TcpProxy"]


class Loss(Enum):
    """What becomes of a request that is hit. The client's connection is cut each time."""

    REPLY = auto()
    """The server has carried it out and replied; the reply is thrown away."""
    BEFORE_REPLY = auto()
    """The server has it; the proxy does not wait to see whether it is carried out."""
    LATE = auto()
    """It is held back, and given to the server when the test says so."""
    CUT = auto()
    """The server never has it."""


class TcpProxy:
    """Forwards connections on a port of this host to a server's Unix socket.

    Requests that hold the armed bytes are hit, as many as were asked for; the rest pass.
    """

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._marker = b""
        self._times = 0
        self._every, self._seen = 1, 0
        self._loss = Loss.REPLY
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._running: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0
        """Connections taken so far."""
        self.hits = 0
        """Requests hit so far."""
        self.late = asyncio.Event()
        """Set it to let the requests go that were held back."""
        self.delivered = asyncio.Event()
        """Set when a request that was held back has had its reply."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, schema: str) -> str:
        """The URL of a store behind this proxy."""
        return (
            f"postgresql://postgres@127.0.0.1:{self.port}/postgres?sslmode=disable&schema={schema}"
        )

    def hit(self, marker: str, times: int = 1, loss: Loss = Loss.REPLY, every: int = 1) -> None:
        """Lose the next requests that hold ``marker``, or only every so many-th of them."""
        self._marker, self._times, self._loss = marker.encode(), times, loss
        self._every, self._seen = every, 0

    def freeze(self) -> None:
        """Carry nothing any more, in either direction, and say nothing: the network is half-open.

        A new connection is taken, and not answered.
        """
        self._flowing.clear()

    def thaw(self) -> None:
        """Carry everything again, what has piled up first."""
        self._flowing.set()

    def strand(self) -> None:
        """Lose every connection there is: nothing says so, now or later. New ones are sound."""
        self.freeze()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def armed(self) -> int:
        """Hits still to come."""
        return self._times

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._upstream)
            try:
                await self._connect(reader, writer, server_reader, server_writer)
            finally:
                server_writer.close()
        except OSError:
            pass  # the server is away, or a side has hung up: so it looks to the client as well
        except asyncio.CancelledError:
            pass  # the proxy is being closed; asyncio would log a handler that ends as cancelled
        finally:
            writer.transport.abort()

    async def _connect(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        flowing = self._flowing
        replies = asyncio.create_task(self._pump(server_reader, writer, flowing))
        try:
            while request := await reader.read(1 << 20):
                if self._is_hit(request):
                    self._times -= 1
                    loss = self._loss  # that of this hit: the next may be armed meanwhile
                    self.hits += 1
                    replies.cancel()
                    with suppress(asyncio.CancelledError):  # it is our own cancel that comes back
                        await replies
                    await self._lose(loss, request, writer, server_reader, server_writer)
                    return
                await flowing.wait()
                server_writer.write(request)
                await server_writer.drain()
        finally:
            replies.cancel()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        while reply := await reader.read(1 << 20):
            await flowing.wait()
            writer.write(reply)
            await writer.drain()
        writer.close()

    def _is_hit(self, request: bytes) -> bool:
        if not self._times or self._marker not in request:
            return False
        self._seen += 1
        return self._seen % self._every == 0

    async def _lose(
        self,
        loss: Loss,
        request: bytes,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        if loss is Loss.CUT:
            return
        if loss is Loss.LATE:
            writer.transport.abort()
            await self.late.wait()
        server_writer.write(request)
        await server_writer.drain()
        if loss is Loss.BEFORE_REPLY:
            return
        await server_reader.read(1)
        self.delivered.set()
