"""A queue of notifications that a session of somebody else's has filled: work goes on, unheard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from tapescope import Reporter, TaskCancelled, TaskManager
from tapescope.errors import StoreUnavailable
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import session
from tests.support.services import running_postgres

FILL = "SELECT pg_notify('other', repeat('x', 7900)) FROM generate_series(1, 20)"


@asynccontextmanager
async def filled_queue(url: str) -> AsyncGenerator[None]:
    """A session that listens in a transaction, and as many notifications as there is room for."""
    async with session(url) as raw, session(url) as listener:
        await listener.execute("LISTEN other")
        await listener.execute("BEGIN")
        await listener.execute("SELECT 1")
        with suppress(asyncpg.ProgramLimitExceededError):  # it is full now
            while True:
                await raw.execute(FILL)
        yield


@pytest.mark.slow  # a server of its own: the size of the queue is set at a start
async def test_work_goes_on_beside_a_full_queue(caplog: pytest.LogCaptureFixture) -> None:
    """Each write, a caller's transaction too, is committed; a follower elsewhere hears later."""
    with running_postgres("max_notify_queue_pages = 64\n") as server, caplog.at_level(logging.INFO):
        url = server.url()
        go = asyncio.Event()

        async def wait(report: Reporter) -> str:
            await report.log("info", "begun")
            await go.wait()
            return "done"

        async def take(report: Reporter) -> object:
            return (await report.message()).body  # sent by a store that cannot say so elsewhere

        async def fail_once(report: Reporter) -> int:
            if report.attempt == 1:
                raise RuntimeError("planned")
            return report.attempt

        async with (
            PostgresStore(url, patience=5) as store,
            PostgresStore(url) as elsewhere,
            TaskManager(store, heartbeat=3600, lease=7200, retry_delay=0.01) as manager,
            TaskManager(elsewhere, work=False) as other,
        ):

            async def is_healthy() -> bool:
                await manager._heartbeat.run_once()  # pyright: ignore[reportPrivateUsage]  # counted
                return all(check.ok for check in manager.check_health() if check.name == "store")

            manager.op("named")(fail_once)
            task = await manager.submit("wait", wait)
            await until(lambda: _begun(manager, task.task_id))
            hearing = asyncio.ensure_future(other.handle(task.task_id).result())
            async with filled_queue(url):
                results = [
                    await (await manager.submit("adhoc", fail_once, retries=1)).result(30),
                    await (await manager.submit("named")).result(30),
                ]
                async with session(url) as caller:
                    async with caller.transaction():
                        joined = await manager.submit("named", connection=caller)
                    await manager.announce()
                results.append(await joined.result(30))
                told = await manager.submit("take", take)
                await until(lambda: _begun(manager, told.task_id, 1))
                await told.send(7)
                results.append(await told.result(30))
                stopped = await manager.submit("wait", wait)
                await until(lambda: _begun(manager, stopped.task_id))
                await stopped.cancel()
                with pytest.raises(TaskCancelled):
                    await stopped.result(30)
                go.set()
                results.append(await task.result(30))
                healthy = await is_healthy()
                deaf = not hearing.done()
            heard = await asyncio.wait_for(hearing, 30)
            await until(lambda: "notifications again" in caplog.text)

        assert results == [2, 2, 2, 7, "done"]
        assert (healthy, deaf, heard) == (True, True, "done")
        assert caplog.text.count("queue of notifications is full") == 1


@pytest.mark.slow  # as above
async def test_functions_of_before_wait_for_room() -> None:
    """Where the functions of the schema notify in any case, health says that nothing is written."""
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

            async def is_healthy() -> bool:
                await manager._heartbeat.run_once()  # pyright: ignore[reportPrivateUsage]  # counted
                return all(check.ok for check in manager.check_health() if check.name == "store")

            source: str = await raw.fetchval("SELECT pg_get_functiondef('flush'::regproc)")
            await raw.execute(source.replace("tapescope.quiet", "tapescope.unknown"))
            task = await manager.submit("wait", wait)
            await until(lambda: _begun(manager, task.task_id))
            async with filled_queue(url):
                with pytest.raises(StoreUnavailable, match="NOTIFY"):
                    await manager.submit("other", wait)
                healthy = await is_healthy()
                go.set()
                with pytest.raises(TimeoutError):
                    await task.result(timeout=0.5)
            result = await task.result(timeout=30)
            await until(is_healthy)

    assert (healthy, result) == (False, "done")


async def _begun(manager: TaskManager, task_id: str, events: int = 2) -> bool:
    return len((await manager.tape(task_id)).events) == events
