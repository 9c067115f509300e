"""A store that goes away: really, for what reaches it by the ways of this module."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from types import TracebackType
from typing import Final, Protocol, Self

from tapescope.drills.addresses import Upstream, find_upstream, is_sqlite, read_sqlite_path
from tapescope.drills.scene import Scene
from tapescope.errors import StoreUnavailable, TapescopeError
from tapescope.model.tape import LOG, NewEvent
from tapescope.model.tasks import FinalEvent
from tapescope.store.lookup import find_store

__all__ = ["lose_store"]

_TASKS: Final = 30
_PATIENCE: Final = 0.5
"""Seconds that a call waits for the store that is away."""


@asynccontextmanager
async def lose_store(scene: Scene) -> AsyncGenerator[str]:
    """Appends of running tasks while the store is away; it comes back, and the tasks end."""
    way: AbstractAsyncContextManager[_Way]
    way = _FileLock(scene.url) if is_sqlite(scene.url) else _Relay(find_upstream(scene.url))
    async with (
        way as opened,
        find_store(opened.url, patience=_PATIENCE) as store,
    ):
        there = replace(scene, store=store)
        attempts = [await there.claim() for _ in range(_TASKS)]
        await opened.cut()
        try:
            answers = await asyncio.gather(
                *(store.append(one, [NewEvent(LOG, "the store is away")]) for one in attempts),
                return_exceptions=True,
            )
        finally:
            await opened.mend()
        for attempt in attempts:
            await scene.store.finish_if_running(
                replace(attempt, cursor=None), FinalEvent.succeeded()
            )
        failed = sum(isinstance(answer, TapescopeError) for answer in answers)
        yield f"the store was away: {failed} of {_TASKS} appends failed; it is back"


class _Way(Protocol):
    """A way to the store that can be cut."""

    url: str

    async def cut(self) -> None:
        """The store cannot be reached any more."""

    async def mend(self) -> None:
        """The store can be reached again."""


class _FileLock:
    """A SQLite file whose lock another connection holds: no process can write meanwhile."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._raw = sqlite3.connect(
            read_sqlite_path(url), isolation_level=None, check_same_thread=False
        )

    async def cut(self) -> None:
        """Take the lock. Raises ``StoreUnavailable`` when another connection has it."""
        try:
            await asyncio.to_thread(self._raw.execute, "BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(self.url, str(error)) from error

    async def mend(self) -> None:
        """Give the lock back."""
        if self._raw.in_transaction:
            self._raw.execute("ROLLBACK")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._raw.close()


class _Relay:
    """A port of 127.0.0.1 that leads to a PostgreSQL server, until it is cut."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.url = ""

    async def cut(self) -> None:
        """Listen no more, and break every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in self._open:
            connection.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def mend(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.mend()
        self.url = self._upstream.behind(self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        try:
            await self._join(reader, writer)
        except OSError:
            pass  # one side has hung up: the other side is hung up on
        except asyncio.CancelledError:
            pass  # cut; asyncio would log a handler that ends as cancelled
        finally:
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = self._upstream
        if to.path is not None:
            theirs, ours = await asyncio.open_unix_connection(to.path)
        else:
            theirs, ours = await asyncio.open_connection(to.host, to.port)
        replies = asyncio.create_task(_pass_on(theirs, writer))
        try:
            await _pass_on(reader, ours)
        finally:
            replies.cancel()
            with suppress(
                asyncio.CancelledError, OSError
            ):  # of this cancel; or the connection was cut before
                await replies
            ours.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(1 << 16):
        writer.write(some)
        await writer.drain()
    writer.close()
