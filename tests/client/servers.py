"""Servers for a client to ask: a real one, one that says what a test wants, one that cuts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from operator import attrgetter
from typing import Any

from tapescope import Reporter, TaskManager
from tapescope.client import Client, SyncClient
from tapescope.http.api import ApiLimits, ApiServer, make_app
from tapescope.model.tape import Event
from tests.http.client import serving

__all__ = ["KINDS", "Cutter", "Shop", "canned", "collect", "ended_by", "http", "ndjson", "puppet"]

KINDS = (Client, SyncClient)
"""Both clients: what one does the other one does."""

Speak = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Shop:
    """A manager with ops, served over HTTP."""

    def __init__(self, manager: TaskManager) -> None:
        self.manager = manager
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.server: ApiServer
        manager.op("double")(self._double)
        manager.op("fail", retries=0)(self._fail)
        manager.op("count")(self._count)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return self.server.url

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, tokens: Any = None, **limits: Any) -> AsyncGenerator[Shop]:
        """It is served inside."""
        shop = cls(TaskManager(url, drain=0))
        app = make_app(shop.manager, tokens=tokens, limits=ApiLimits(**limits))
        async with shop.manager, serving(app) as (shop.server, _):
            yield shop

    async def _double(self, report: Reporter, n: int) -> int:
        await report.log("info", "here")
        return 2 * n

    async def _fail(self, report: Reporter) -> None:
        raise ValueError("no")

    async def _count(self, report: Reporter, to: int = 5) -> int:
        """Count, wait, and count on."""
        for n in range(to):
            await report.emit("count", n)
        self.begun.set()
        await self.go_on.wait()
        for n in range(to):
            await report.emit("count", n)
        return to


async def collect(
    kind: type[Client] | type[SyncClient],
    url: str,
    task_id: str,
    after_seq: int = 0,
    into: list[int] | None = None,
    **settings: Any,
) -> list[Event]:
    """All the events that a follower of this kind is told of, to the end.

    Their seqs go ``into`` a list as they come.
    """
    told: list[Event] = []
    seqs = [] if into is None else into

    def take(event: Event) -> None:
        told.append(event)
        seqs.append(event.seq)

    if kind is Client:
        async with Client(url, **settings) as client:
            async for event in client.follow(task_id, after_seq):
                take(event)
        return told

    def follow() -> None:
        with SyncClient(url, **settings) as client:
            for event in client.follow(task_id, after_seq):
                take(event)

    await asyncio.to_thread(follow)
    return told


async def ended_by(
    kind: type[Client] | type[SyncClient], url: str, verb: str, *arguments: Any, **settings: Any
) -> Any:
    """What a verb, such as ``schedules.get``, gives, or the error that it raises."""
    try:
        if kind is Client:
            async with Client(url, **settings) as client:
                return await attrgetter(verb)(client)(*arguments)

        def call() -> Any:
            with SyncClient(url, **settings) as client:
                return attrgetter(verb)(client)(*arguments)

        return await asyncio.to_thread(call)
    except Exception as error:  # noqa: BLE001  # it is what the test asks for
        return error


@asynccontextmanager
async def puppet(speak: Speak) -> AsyncGenerator[str]:
    """A server that answers each request as ``speak`` says, given its head; gives its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            await speak(head, writer)
            await writer.drain()

    async with _listening(answer) as url:
        yield url


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _listening(answer: Answer) -> AsyncGenerator[str]:
    """A server whose connections are answered so, and closed then; at the end none is left."""
    talks = set[asyncio.Task[None]]()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await answer(reader, writer)
            writer.close()
        finally:
            if not writer.is_closing():
                writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        talks.discard(task)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for _ in range(10):
            await asyncio.sleep(0)  # what was accepted by now has begun to be answered
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


@asynccontextmanager
async def canned(answers: Sequence[bytes]) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A server with these answers, the last one for ever; gives its URL and what it was sent."""
    asked: list[bytes] = []

    async def speak(head: bytes, writer: asyncio.StreamWriter) -> None:
        asked.append(head)
        writer.write(answers[min(len(asked), len(answers)) - 1])

    async with puppet(speak) as url:
        yield url, asked


def http(
    body: bytes, kind: str = "application/json", status: str = "200 OK", headers: str = ""
) -> bytes:
    """An answer of HTTP/1.1, after which the connection ends."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ndjson(*lines: bytes) -> bytes:
    """A stream of these lines, which then ends."""
    return http(b"".join(lines), "application/x-ndjson")


class Cutter:
    """A proxy that cuts each connection once so many bytes of answers have passed."""

    def __init__(self, port: int, after: Sequence[int]) -> None:
        """The n-th connection is cut after ``after[n]`` bytes; those past the list are not."""
        self._upstream, self._after = port, after
        self.connections = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[str]:
        """Gives its URL."""

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number, self.connections = self.connections, self.connections + 1
            left = self._after[number] if number < len(self._after) else 1 << 40
            there, here = await asyncio.open_connection("127.0.0.1", self._upstream)
            asking = asyncio.ensure_future(_pump(reader, here))
            try:
                with suppress(OSError):
                    while left and (chunk := await there.read(min(left, 65_536))):
                        left -= len(chunk)
                        writer.write(chunk)
                        await writer.drain()
            finally:
                asking.cancel()
                await asyncio.wait([asking])
                here.transport.abort()
                with suppress(OSError):
                    await here.wait_closed()

        async with _listening(carry) as url:
            yield url


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
