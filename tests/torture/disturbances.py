"""What befalls a store while tasks run on it, again and again, until the tasks have ended."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Final

import asyncpg

from tests.stress.benches import open_bench
from tests.stress.delays import Delays, pause, pause_thread
from tests.stress.harness import Result, play
from tests.support.services import Postgres
from tests.support.tcp_proxy import Loss, TcpProxy

__all__ = ["LOCKED", "REPLIES", "RESTARTS", "SESSIONS", "play_disturbed"]

RESTARTS: Final = "server-restarts"
"""PostgreSQL is stopped as by a crash, and started again."""
SESSIONS: Final = "sessions-ended"
"""``pg_terminate_backend`` for every session."""
REPLIES: Final = "replies-lost"
"""The network cuts a connection at a request: before it, after it, or only its reply is lost."""
LOCKED: Final = "file-locked"
"""Another process holds the write lock of a SQLite file."""
_KINDS: Final = ("cancel-soon", "cancel-at-completion", "emitting-runner", "emitting-thread")
"""What is played meanwhile."""
_AT_ONCE: Final = 32
_PATIENCE: Final = 120.0
"""Seconds for a task to end: the store is away again and again."""
_EVERY: Final = 25
"""Of so many requests one is hit."""


@dataclass
class Disturber:
    """One kind of trouble: ``act`` makes some of it and says how much; there are pauses between."""

    act: Callable[[], Awaitable[int]]
    most_pause: float
    """Milliseconds."""
    times: int = 0

    async def go_on(self, delays: Delays) -> None:
        """Make trouble until cancelled."""
        while True:
            await pause(delays.draw("between two disturbances", 0, self.most_pause))
            self.times += await self.act()


async def play_disturbed(
    attack: str,
    bench_name: str,
    url: str,
    server: Postgres | None,
    runs: int,
    seed: int,
    *,
    times: int = 1,
) -> Result:
    """At least so many scenarios, and so many disturbances, all judged as in the stress runs."""
    result, delays = Result(attack, bench_name, seed), Delays(seed)
    began = time.perf_counter()
    async with AsyncExitStack() as stack:
        disturber, url = await _prepare(attack, url, server, delays, stack)
        bench = await stack.enter_async_context(open_bench(bench_name, url))
        async with _disturbed(disturber, delays):
            for kind in cycle(_KINDS):
                part = await play(
                    bench,
                    kind,
                    max(1, min(_AT_ONCE, runs // len(_KINDS))),
                    delays.random.randrange(1 << 32),
                    patience=_PATIENCE,
                    at_once=_AT_ONCE,
                )
                _add(result, part)
                if result.runs >= runs and disturber.times >= times:
                    break
    result.seconds = time.perf_counter() - began
    result.delays = delays.describe()
    result.figures = [f"{disturber.times} disturbances"]
    return result


def _add(result: Result, part: Result) -> None:
    result.runs += part.runs
    result.outcomes += part.outcomes
    result.cancels += part.cancels
    result.late += part.late
    result.bad |= part.bad


@asynccontextmanager
async def _disturbed(disturber: Disturber, delays: Delays) -> AsyncGenerator[None]:
    disturbing = asyncio.ensure_future(disturber.go_on(delays))
    try:
        yield
    finally:
        disturbing.cancel()
        with suppress(asyncio.CancelledError):  # ours
            await disturbing


async def _prepare(
    attack: str, url: str, server: Postgres | None, delays: Delays, stack: AsyncExitStack
) -> tuple[Disturber, str]:
    """The trouble, and the URL at which the store meets it."""
    if attack == LOCKED:
        path = url.removeprefix("sqlite:///")
        return Disturber(lambda: _hold_lock(path, delays), 50), url
    assert server is not None, attack
    if attack == RESTARTS:
        return Disturber(lambda: _restart(server, delays), 1_500), url
    if attack == SESSIONS:
        return Disturber(lambda: _end_sessions(server), 200), url
    proxy = await stack.enter_async_context(TcpProxy(server.socket_folder / ".s.PGSQL.5432"))
    proxy.late.set()

    async def arm() -> int:
        if proxy.armed:
            return 0
        loss = delays.random.choice([*Loss])
        proxy.hit("", loss=loss, every=delays.random.randrange(1, _EVERY))
        return 1

    schema = url.rpartition("schema=")[2]
    return Disturber(arm, 50), proxy.url(schema)


async def _restart(server: Postgres, delays: Delays) -> int:
    """Whatever happens to the caller, it runs again at the end."""
    away = delays.draw("server away", 0, 300)
    await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(_stop_and_start, server, away)))
    return 1


def _stop_and_start(server: Postgres, away: float) -> None:
    server.stop()
    pause_thread(away)
    server.start()


async def _end_sessions(server: Postgres) -> int:
    raw = await asyncpg.connect(server.dsn)
    try:
        ended = await raw.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    finally:
        await raw.close()
    return len(ended)


async def _hold_lock(path: str, delays: Delays) -> int:
    await asyncio.to_thread(_lock, path, delays.draw("lock held", 0, 300))
    return 1


def _lock(path: str, seconds: float) -> None:
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        pause_thread(seconds)
        file.execute("ROLLBACK")
