"""The program of the live run: the load of ``dashboards.load``, and mishaps when asked for them.

A line on standard input names a mishap; when it has happened the program says so. Mishaps happen on
a scratch store of the same kind, so that the load's own store stays whole.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from dashboards.load import serve_load
from tapescope import TaskManager
from tapescope.audit import audit_store
from tapescope.errors import StoreUnavailable, TapescopeError
from tapescope.store import new_task_id
from tapescope.tape import NewEvent
from tapescope.tasks import Attempt, ErrorInfo, Final, NewTask
from tapescope_adapters.sqlite import SqliteStore
from tests.polling import until

OWNER = "elsewhere:1:0:aa"


class Mishaps:
    """What goes wrong on purpose, each on a scratch store in ``folder``."""

    def __init__(self, manager: TaskManager, folder: Path) -> None:
        self._telemetry = manager.telemetry
        self._folder = folder

    def find(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        """The mishap of this name."""
        return {
            "late-event": self.report_late,
            "zombie-worker": self.write_as_a_zombie,
            "duplicate-final": self.end_twice,
            "integrity-violation": self.break_a_tape,
            "store-outage": self.lose_the_store,
        }[name]

    async def report_late(self) -> None:
        """Thirty events for tapes that are closed."""
        async with self._scratch() as store:
            for _ in range(10):
                attempt = await self._start(store)
                await store.finish_if_running(attempt, Final.succeeded())
                await store.append(attempt, [NewEvent("log", n) for n in range(3)])

    async def write_as_a_zombie(self) -> None:
        """Two owners that are silent: one task is rescued for good, one for another attempt.

        Then the second owner wakes up and goes on writing.
        """
        async with self._scratch() as store:
            zombie = await self._start(store, lease=0.05, retries=1)
            await until(lambda: store.rescue_expired(ops={"drill"}))
            lost = await self._start(store, lease=0.05)

            async def ended() -> bool:
                return (await store.get(lost.task_id)).status.terminal

            rescuer = TaskManager(store, heartbeat=0.1, lease=1, telemetry=self._telemetry)
            async with rescuer:
                await until(ended)
            await store.append(zombie, [NewEvent("log", "still here")])

    async def end_twice(self) -> None:
        """Two different ends for one task."""
        async with self._scratch() as store:
            attempt = await self._start(store)
            await store.finish_if_running(attempt, Final.succeeded(1))
            with suppress(TapescopeError):  # whether it raises is not what is shown here
                await store.finish_if_running(attempt, Final.failed(ErrorInfo("Second", "no")))

    async def break_a_tape(self) -> None:
        """A hole in a tape, made past the guards and found by an audit."""
        async with self._scratch() as store:
            attempt = await self._start(store)
            await store.append(attempt, [NewEvent("log", n) for n in range(3)])
            await store.finish_if_running(attempt, Final.succeeded())
            with closing(sqlite3.connect(store.path, isolation_level=None)) as raw:
                for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type='trigger'"):
                    raw.execute(f"DROP TRIGGER {name}")
                raw.execute("DELETE FROM events WHERE seq = 3")
            report = await audit_store(store)
            assert report.violations

    async def lose_the_store(self) -> None:
        """A database that somebody else holds for longer than the store waits."""
        async with self._scratch(patience=0.3) as store:
            attempts = [await self._start(store) for _ in range(50)]
            with closing(sqlite3.connect(store.path, isolation_level=None)) as raw:
                raw.execute("BEGIN EXCLUSIVE")
                events = [NewEvent("log", "nobody hears")]
                met = await asyncio.gather(
                    *(store.append(attempt, events) for attempt in attempts), return_exceptions=True
                )
            assert all(isinstance(error, StoreUnavailable) for error in met), met

    @asynccontextmanager
    async def _scratch(self, patience: float = 10.0) -> AsyncGenerator[SqliteStore]:
        path = self._folder / f"{new_task_id()}.db"
        store = SqliteStore(f"sqlite:///{path}", telemetry=self._telemetry, patience=patience)
        await store.open()
        try:
            yield store
        finally:
            await store.aclose()

    async def _start(self, store: SqliteStore, lease: float = 60, retries: int = 0) -> Attempt:
        self._telemetry.tasks.seen("drill")
        task, _ = await store.create(NewTask(new_task_id(), "drill", retries=retries))
        claim = await store.claim_if_pending(task, OWNER, lease)
        assert claim is not None
        return claim.attempt


async def listen(manager: TaskManager) -> None:
    """Let the mishaps that standard input names happen, and say when each has."""
    mishaps = Mishaps(manager, Path(os.environ["SCRATCH"]))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    while line := await lines.readline():
        name = line.decode().strip()
        await mishaps.find(name)()
        print(f"happened: {name}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve_load(sys.argv[1], "127.0.0.1", 0, 0.2, listen))
