"""Tasks of ops that Temporal brings: the same ends, tapes and errors as with the claim loop."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import ActivityExecutionStatus, Client

from tapescope import Reporter, TaskFailed, TaskManager
from tapescope.testing import until

pytestmark = pytest.mark.temporal


async def _status(client: Client, task_id: str) -> ActivityExecutionStatus:
    return (await client.get_activity_handle(task_id).describe()).status


def _make(url: str, engine: str, **settings: object) -> TaskManager:
    manager = TaskManager(url, engine=engine, lease=3.0, heartbeat=0.5, retry_delay=0.05, **settings)  # type: ignore[arg-type]

    @manager.op("double")
    async def double(report: Reporter, n: int) -> int:
        await report.progress(1, 1)
        return 2 * n

    return manager


async def test_a_task_succeeds_on_both_sides(
    postgres_url: str, engine_url: str, client: Client
) -> None:
    """Its result is in the store; Temporal has the id and the word."""
    async with _make(postgres_url, engine_url) as manager:
        handle = await manager.submit("double", params={"n": 21})
        assert await handle.result(timeout=20) == 42
        task = await handle.status()
        tape = await handle.tape()
        await until(lambda: _ended(client, handle.task_id))

        assert task.engine == "temporal"
        assert [event.type for event in tape.events] == ["task_started", "progress", "final"]
        assert await _status(client, handle.task_id) is ActivityExecutionStatus.COMPLETED


async def _ended(client: Client, task_id: str) -> bool:
    return await _status(client, task_id) is not ActivityExecutionStatus.RUNNING
