"""What is said on one side is heard on the other: cancel, terminate, pause, reset."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from temporalio.client import Client

from tapescope import Reporter, TaskCancelled, TaskManager
from tapescope.testing import until
from tests.temporal.looks import list_types, until_running, until_status

pytestmark = pytest.mark.temporal


@pytest_asyncio.fixture
async def manager(postgres_url: str, engine_url: str) -> AsyncGenerator[TaskManager]:
    """One whose runs wait until they are told to end."""
    manager = TaskManager(
        postgres_url, engine=engine_url, lease=3.0, heartbeat=0.5, drain=0.1, audit_every=None
    )
    manager.op("waits")(_wait)
    async with manager:
        yield manager


async def _wait(report: Reporter) -> str:
    await report.progress("begun", 1)
    await asyncio.Event().wait()
    return "never"


@pytest.mark.parametrize("message", ["enough", ""])
@pytest.mark.parametrize("by", ["anna", None])
async def test_a_cancel_here_is_a_cancel_there(
    manager: TaskManager, client: Client, message: str, by: str | None
) -> None:
    """A run: both sides say cancelled, and neither an error nor a success. Who said it is told
    there, and not what was said."""
    handle = await manager.submit("waits")
    await until_running(manager, handle.task_id)
    await handle.cancel(message, by=by)
    with pytest.raises(TaskCancelled):
        await handle.result(timeout=30)
    cancel = (await handle.status()).cancel

    await until_status(client, handle.task_id, "CANCELED")
    told = await client.get_activity_handle(handle.task_id).describe()
    assert cancel is not None
    assert (cancel.message, cancel.by) == (message, by)
    assert told.canceled_reason == "cancelled in tapescope" + (f", by {by}" if by else "")


async def test_a_cancel_there_is_a_cancel_here(manager: TaskManager, client: Client) -> None:
    """A run: with the reason that was given there, by the engine."""
    handle = await manager.submit("waits")
    await until_running(manager, handle.task_id)
    await client.get_activity_handle(handle.task_id).cancel(reason="too dear")
    with pytest.raises(TaskCancelled, match="too dear"):
        await handle.result(timeout=30)
    cancel = (await handle.status()).cancel

    assert cancel is not None
    assert (cancel.reason.value, cancel.by) == ("user", "temporal")
    await until_status(client, handle.task_id, "CANCELED")


async def test_both_sides_at_once_are_one_cancel(manager: TaskManager, client: Client) -> None:
    """One final, with one of the two reasons."""
    handle = await manager.submit("waits")
    await until_running(manager, handle.task_id)
    await asyncio.gather(
        handle.cancel("from here"),
        client.get_activity_handle(handle.task_id).cancel(reason="from there"),
    )
    with pytest.raises(TaskCancelled, match=r"from (here|there)"):
        await handle.result(timeout=30)

    assert await list_types(manager, handle.task_id) == ["task_started", "final"]
    await until_status(client, handle.task_id, "CANCELED")


async def test_a_run_that_is_terminated_there_is_cancelled_here(
    manager: TaskManager, client: Client
) -> None:
    """A terminate tells nobody: the next heartbeat learns of it."""
    handle = await manager.submit("waits")
    await until_running(manager, handle.task_id)
    await client.get_activity_handle(handle.task_id).terminate(reason="away with it")
    with pytest.raises(TaskCancelled, match="terminated in Temporal"):
        await handle.result(timeout=30)

    await until_status(client, handle.task_id, "TERMINATED")


@pytest.mark.parametrize("terminated", [False, True], ids=["cancelled", "terminated"])
async def test_what_waits_and_is_ended_there_ends_here(
    manager: TaskManager, client: Client, terminated: bool
) -> None:
    """No worker ever hears of it: the reconciler does, within its turn."""
    handle = await manager.submit("waits", delay=3_600)
    await until_status(client, handle.task_id, "RUNNING")
    there = client.get_activity_handle(handle.task_id)
    await (there.terminate(reason="no") if terminated else there.cancel(reason="no"))
    with pytest.raises(TaskCancelled, match=r"in Temporal|no"):
        await handle.result(timeout=40)

    assert await list_types(manager, handle.task_id) == ["final"]


async def test_what_waits_and_is_cancelled_here_is_forgotten_there(
    manager: TaskManager, client: Client
) -> None:
    """It need not wait for its time, an hour later."""
    handle = await manager.submit("waits", delay=3_600)
    await until_status(client, handle.task_id, "RUNNING")
    await handle.cancel("not wanted")

    await until_status(client, handle.task_id, "CANCELED")
    assert await list_types(manager, handle.task_id) == ["final"]


async def test_a_pause_there_gives_the_task_back(manager: TaskManager, client: Client) -> None:
    """No retry is spent, and the next attempt follows what ends the pause."""
    handle = await manager.submit("waits")
    await until_running(manager, handle.task_id)
    there = client.get_activity_handle(handle.task_id)
    await there.pause(reason="an incident")

    async def released() -> bool:
        return await list_types(manager, handle.task_id) == ["task_started", "attempt_released"]

    await until(released, within=30)
    tape = await handle.tape()
    await there.unpause()

    async def again() -> bool:
        return (await handle.status()).attempt == 2

    await until(again, within=30)
    assert "paused in Temporal" in str(tape.events[-1].body)
    assert (await handle.status()).retries_spent == 0
    await handle.cancel("enough")
