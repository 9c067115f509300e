"""A queue of notifications that a session of somebody else's has filled refuses no task its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from tapescope import Reporter, TaskManager
from tapescope.errors import StoreUnavailable
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import session
from tests.support.services import running_postgres

FILL = "SELECT pg_notify('other', repeat('x', 7900)) FROM generate_series(1, 20)"


@pytest.mark.slow  # a server of its own: the size of the queue is set at a start
async def test_a_full_queue_is_waited_for() -> None:
    """A final is written once there is room again; until then health says that there is none."""
    with running_postgres("max_notify_queue_pages = 64\n") as server:
        url = server.url()
        go = asyncio.Event()

        async def wait(report: Reporter) -> str:
            await report.log("info", "begun")
            await go.wait()
            return "done"

        async with (
            PostgresStore(url, patience=2) as store,
            TaskManager(store, heartbeat=3600, lease=7200) as manager,
            session(url) as raw,
        ):

            async def beat() -> bool:
                await manager._heartbeat.run_once()  # pyright: ignore[reportPrivateUsage]  # counted
                return all(check.ok for check in manager.check_health() if check.name == "store")

            task = await manager.submit("wait", wait)
            await until(lambda: _begun(manager, task.task_id))
            async with session(url) as listener:
                await listener.execute("LISTEN other")
                await listener.execute("BEGIN")
                await listener.execute("SELECT 1")
                with suppress(asyncpg.ProgramLimitExceededError):  # it is full now
                    while True:
                        await raw.execute(FILL)
                with pytest.raises(StoreUnavailable, match="NOTIFY"):
                    await manager.submit("other", wait)
                assert not await beat()
                go.set()
                with pytest.raises(TimeoutError):
                    await task.result(timeout=0.5)
                assert (await task.status()).status.value == "running"
            result = await task.result(timeout=30)  # the next try: nobody else writes here
            assert await beat()

        assert result == "done"


async def _begun(manager: TaskManager, task_id: str) -> bool:
    return len((await manager.tape(task_id)).events) == 2
