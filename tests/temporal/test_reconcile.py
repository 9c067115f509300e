"""What a turn of the reconciler asks a real server, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from tapescope import TaskManager
from tapescope.engine import reconcile
from tapescope.model import NewTask, Task
from tapescope.store.validation import check_time, new_task_id
from tapescope.testing import until
from tapescope_adapters.temporal import TemporalEngine, _dispatch
from tapescope_adapters.temporal._names import make_queue, make_timeout
from tests.temporal.looks import read_status, until_status

pytestmark = pytest.mark.temporal

LAST = datetime.max.replace(tzinfo=UTC)


@pytest.fixture
def engine(engine_url: str) -> TemporalEngine:
    """Of a manager that works on nothing."""
    return TemporalEngine(engine_url, heartbeat=1.0)


@pytest_asyncio.fixture
async def manager(postgres_url: str, engine: TemporalEngine) -> AsyncGenerator[TaskManager]:
    """One that submits, and takes no turn of its own."""
    async with TaskManager(postgres_url, engine=engine, work=False, audit_every=None) as manager:
        yield manager


async def _create(manager: TaskManager, run_at: datetime | None = None) -> Task:
    """A task that the engine was not told of."""
    due = None if run_at is None else check_time("run_at", run_at)
    new = NewTask(new_task_id(), "other", run_at=due, engine="temporal")
    return (await manager.store.create(new))[0]


async def test_a_task_may_be_due_at_the_end_of_the_calendar(
    manager: TaskManager, engine: TemporalEngine, client: Client
) -> None:
    """Temporal waits as long as it can, and the others are brought."""
    tasks = [await _create(manager, at) for at in (None, LAST, LAST - timedelta(days=1), None)]
    done = await reconcile(manager.store, engine)
    known = [await read_status(client, task.task_id) for task in tasks]
    delay = (await client.get_activity_handle(tasks[1].task_id).describe()).start_delay

    assert (done.confirmed, done.failed) == (4, "")
    assert {one and one.name for one in known} == {"RUNNING"}
    assert delay == timedelta(days=3_650)


@pytest.mark.parametrize("reason", ["", "too dear"])
@pytest.mark.parametrize("ends", ["FAILED", "TIMED_OUT"])
async def test_what_ends_there_after_a_cancel_is_cancelled_here(
    manager: TaskManager, engine: TemporalEngine, client: Client, ends: str, reason: str
) -> None:
    """However it ends, as when its worker dies: nothing else keeps it from the next retry."""
    began, asked = asyncio.Event(), asyncio.Event()

    @activity.defn(name="other")
    async def other(task_id: str) -> None:
        began.set()
        await asked.wait()
        if ends == "FAILED":
            raise ApplicationError("attempt 1 is over", type="again")
        with suppress(asyncio.CancelledError):  # it gives no sign of life, and is given up
            await asyncio.Event().wait()

    task = await _create(manager)
    queue = make_queue(await manager.store.engines.read_store_id(), "other")
    there = client.get_activity_handle(task.task_id)
    async with Worker(client, task_queue=queue, activities=[other]):
        assert (await reconcile(manager.store, engine)).confirmed == 1
        await asyncio.wait_for(began.wait(), 30)
        await there.cancel(reason=reason)
        asked.set()
        await until_status(client, task.task_id, ends)
        done = await engine.confirm([task])

    assert done.has == []
    assert done.cancelled == {task.task_id: reason or "cancelled in Temporal"}


async def test_what_is_cancelled_there_while_another_worker_runs_it_is_cancelled_here(
    manager: TaskManager, engine: TemporalEngine, client: Client
) -> None:
    """The cancel is on record: its worker hears of it, or the rescue after it."""
    task = await _create(manager)
    await reconcile(manager.store, engine)
    assert await manager.store.claim_if_pending(task, "another", 30.0) is not None
    await client.get_activity_handle(task.task_id).cancel(reason="too dear")

    async def recorded() -> bool:
        return (await reconcile(manager.store, engine)).cancelled == 1

    await until(recorded, within=30)
    row = await manager.store.get(task.task_id)

    assert row.owner == "another"
    assert row.cancel is not None
    assert (row.cancel.by, row.cancel.reason.value) == ("temporal", "user")


async def test_a_defect_over_one_task_keeps_no_other_one(
    manager: TaskManager,
    engine: TemporalEngine,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The turn says of it, and the others are confirmed."""
    tasks = [await _create(manager) for _ in range(3)]

    def fail_at_second(task: Task) -> timedelta:
        if task.task_id == tasks[1].task_id:
            raise RuntimeError("broken")
        return make_timeout(task)

    monkeypatch.setattr(_dispatch, "make_timeout", fail_at_second)
    done = await reconcile(manager.store, engine)

    assert (done.confirmed, done.failed) == (2, f"task {tasks[1].task_id}: RuntimeError: broken")
    assert await manager.store.engines.find_unconfirmed("temporal") == [tasks[1]]
    assert await read_status(client, tasks[1].task_id) is None
