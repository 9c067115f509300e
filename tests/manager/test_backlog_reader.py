"""What waits is told by every process that has the store open, also by one that only submits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tapescope import Reporter, TaskManager, find_store
from tapescope.manager import backlog_reader
from tapescope.testing import MemoryStore, until
from tests.support.captured_telemetry import CapturedTelemetry

WAITING = "tapescope.task.backlog"


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[CapturedTelemetry]:
    """Telemetry that is read back, of readers that do not wait for long."""
    monkeypatch.setattr(backlog_reader, "_FIRST", 0.0)
    monkeypatch.setattr(backlog_reader, "_EVERY", 0.01)
    kept = CapturedTelemetry()
    yield kept
    kept.close()


async def work(report: Reporter) -> None:
    """Do nothing."""


def backlog_of(manager: TaskManager) -> str:
    """The line of the health check."""
    return next(c.detail for c in manager.check_health() if c.name == "backlog")


async def test_who_only_submits_tells_what_waits(
    store_url: str, captured: CapturedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As do its health and its metrics: how much, for how long, and that no worker is there."""
    monkeypatch.setattr("tapescope.store.backlog._FRESH", 0.0)
    async with (
        find_store(store_url, telemetry=captured.telemetry) as store,
        TaskManager(store, work=False) as manager,
    ):
        for _ in range(3):
            await manager.submit("resize")
        await manager.submit("resize", delay=3_600)

        def is_told() -> bool:
            return "4 wait" in backlog_of(manager)

        assert await until(is_told)
        said = backlog_of(manager)
        told = {
            point.labels["tapescope.task.state"]: point.value for point in captured.points(WAITING)
        }
        workers = captured.value("tapescope.op.workers", task_op="resize")
        oldest = captured.value("tapescope.task.oldest_due.age", task_op="resize")
        ready = next(c.ok for c in manager.check_health() if c.name == "backlog")

    assert said == "4 wait, 3 of them due; no worker for resize"
    assert told == {"due": 3, "scheduled": 1, "retrying": 0}
    assert (workers, ready) == (0, True)
    assert oldest >= 0
    assert captured.points(WAITING) == []


async def test_a_worker_lives_from_its_start_to_its_stop(captured: CapturedTelemetry) -> None:
    """It tells the store which ops it can run, and that it ends."""
    async with (
        MemoryStore(telemetry=captured.telemetry) as store,
        TaskManager(store, work=False),
    ):
        async with TaskManager(store, poll=0.01) as worker:
            worker.op("resize", timeout=60)(work)

            async def lives() -> bool:
                return [(one.op, one.workers) for one in (await store.backlog.read()).ops] == [
                    ("resize", 1)
                ]

            assert await until(lives)
            assert await until(lambda: captured.points("tapescope.op.timeout"))
            timeout = captured.value("tapescope.op.timeout", task_op="resize")
        (left,) = (await store.backlog.read()).ops

    assert (left.workers, left.registered, timeout) == (0, True, 60)


async def test_old_numbers_are_not_told(captured: CapturedTelemetry) -> None:
    """After a minute without a reading there are none: none is better than a wrong one."""
    async with (
        MemoryStore(telemetry=captured.telemetry) as store,
        TaskManager(store, work=False) as manager,
    ):
        await manager.submit("resize")
        assert await until(lambda: captured.points(WAITING))
        backlogs = store.meter._on.backlogs  # pyright: ignore[reportPrivateUsage]  # its clock
        backlogs.now = lambda: float("inf")

        assert captured.points(WAITING) == []
