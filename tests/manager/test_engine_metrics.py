"""What a worker of an engine counts: what it was brought, and what the engine has not taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio

from tapescope import Reporter, TaskCancelled, TaskManager
from tapescope.engine import Reconciler
from tapescope.model.tasks import NewTask, TaskStatus
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryStore, until
from tapescope_telemetry.engines import STALE_AFTER
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.queue_engine import QueueEngine

BROUGHT = "tapescope.engine.task.brought"
RECONCILED = "tapescope.engine.task.reconciled"
OVERDUE = "tapescope.engine.task.overdue"


@pytest_asyncio.fixture
async def store(captured: CapturedTelemetry) -> AsyncGenerator[MemoryStore]:
    """A store whose telemetry is read."""
    async with MemoryStore(telemetry=captured.telemetry) as store:
        yield store


def read_brought(captured: CapturedTelemetry) -> dict[tuple[str, ...], float]:
    """How many tasks were brought, by op, result and reason."""
    keys = ("tapescope.task.op", "tapescope.engine.result", "tapescope.engine.held.reason")
    return {
        tuple(str(one.labels[key]) for key in keys if key in one.labels): one.value
        for one in captured.points(BROUGHT)
    }


async def test_what_is_brought_is_counted_by_what_became_of_it(
    store: MemoryStore, captured: CapturedTelemetry
) -> None:
    """With its op; and with why, where it was held. Its run's span names the engine."""
    engine = QueueEngine()
    manager = TaskManager(store, engine=engine, drain=0.0, retry_delay=0.01)

    @manager.op("twice", retries=1)
    async def twice(report: Reporter) -> int:
        if report.attempt == 1:
            raise ValueError("the first attempt fails")
        return report.attempt

    async with manager:
        await (await manager.submit("twice")).result(timeout=10)
        await until(lambda: len(engine.answers) == 2)
        engine.lossy = True
        later = await manager.submit("twice", delay=100)
        strange = await manager.submit("strange")
        for task_id in (later.task_id, strange.task_id, new_task_id()):
            await engine.desk.attempt(task_id)
        own = await manager.submit("own", plain_runner)
        await own.result(timeout=10)
    runs = [span for span in captured.spans() if span.name.startswith("run ")]

    assert read_brought(captured) == {
        ("twice", "again"): 1,
        ("twice", "ended"): 1,
        ("twice", "held", "not_due"): 1,
        ("strange", "unknown"): 1,
        ("_OTHER", "unknown"): 1,
    }
    assert [(run.attributes or {}).get("tapescope.engine.name") for run in runs] == [
        *("queue", "queue", None)
    ]


async def plain_runner(report: Reporter) -> None:
    """It has nothing to do."""


async def test_a_reconciler_counts_what_it_came_to(
    store: MemoryStore, captured: CapturedTelemetry
) -> None:
    """What the engine has, what was cancelled there, and what it does not take."""
    engine = QueueEngine()
    async with TaskManager(store, engine=engine, work=False) as manager:
        taken, refused, ended = [await manager.submit("x") for _ in range(3)]
        engine.known[ended.task_id] = "not any more"
        engine.refused.add(refused.task_id)
        await Reconciler(store, engine).run_once()
        with pytest.raises(TaskCancelled):
            await ended.result(timeout=10)

    results = "tapescope.engine.reconcile.result"
    found = {str(one.labels[results]): one.value for one in captured.points(RECONCILED)}
    assert found == {"confirmed": 1, "cancelled": 1, "left": 1}
    assert (await store.get(taken.task_id)).status is TaskStatus.PENDING


async def test_what_an_engine_does_not_take_is_told_as_overdue(
    store: MemoryStore, captured: CapturedTelemetry
) -> None:
    """While it is so, and no longer than somebody looks."""
    engine = QueueEngine()
    engine.lossy = True
    for _ in range(3):
        await store.create(NewTask(new_task_id(), "x", engine="queue"))
    reconciler = Reconciler(store, engine, late=0.001)
    reconciler.start()
    await until(lambda: captured.points(OVERDUE))
    overdue = captured.value(OVERDUE, engine_name="queue")
    engine.lossy = False
    await reconciler.run_once()
    taken = captured.value(OVERDUE, engine_name="queue")
    meter = captured.telemetry.engines
    now = meter.now()
    meter.now = lambda: now + STALE_AFTER + 1
    stale = captured.points(OVERDUE)
    meter.now = lambda: now
    fresh = captured.points(OVERDUE)
    await reconciler.stop()

    assert (overdue, taken) == (3, 0)
    assert (stale, len(fresh)) == ([], 1)
    assert captured.points(OVERDUE) == []
