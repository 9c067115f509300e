"""What waits is told by every process that has the store open, also by one that only submits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pytest

from tapescope import Reporter, TaskManager, find_store
from tapescope.manager import backlog_reader, worker
from tapescope.model.ops import Drain
from tapescope.store import FlushRefused
from tapescope.store.backlog import StoreBacklog
from tapescope.testing import MemoryBackend, MemoryStore, until
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
    monkeypatch.setattr(StoreBacklog.read, "__kwdefaults__", {"max_age": 0.0})
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
        async with TaskManager(store, poll=0.01) as other:
            other.op("resize", timeout=60)(work)

            async def lives() -> bool:
                return [(one.op, one.workers) for one in (await store.backlog.read()).ops] == [
                    ("resize", 1)
                ]

            assert await until(lives)
            assert await until(lambda: captured.points("tapescope.op.timeout"))
            timeout = captured.value("tapescope.op.timeout", task_op="resize")
        (left,) = (await store.backlog.read()).ops

    assert (left.workers, left.registered, timeout) == (0, True, 60)


class RefusingBackend(MemoryBackend):
    """One whose role may not write to the table of the workers."""

    async def tell_worker(
        self, owner: str, ops: Sequence[str], lease: int, queues: Sequence[str] | None = None
    ) -> None:
        raise FlushRefused("permission denied for table workers")

    async def find_drain(self, owner: str) -> Drain | None:
        raise FlushRefused("permission denied for table workers")


async def test_a_worker_that_may_not_tell_works(caplog: pytest.LogCaptureFixture) -> None:
    """Grants of before this version lack that right: it is warned of once, and tasks are run."""
    backend = RefusingBackend()
    async with (
        MemoryStore(backend=backend) as store,
        TaskManager(store, poll=0.01) as manager,
    ):
        manager.op("resize")(work)
        for _ in range(3):
            await (await manager.submit("resize")).result(10)

    assert [r.getMessage() for r in caplog.records if "cannot tell" in r.getMessage()][1:] == []
    assert "Grant its role anew" in caplog.text


async def test_a_worker_that_looks_seldom_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its ``poll`` is, it tells so in time."""
    monkeypatch.setattr(worker, "_TELL_EVERY", 0.01)
    async with MemoryStore() as store, TaskManager(store, poll=3_600) as manager:
        told: list[float] = []
        tell = store.ops.tell

        async def note(
            owner: str, ops: Collection[str], lease: float, *, queues: Collection[str] | None
        ) -> None:
            told.append(lease)
            await tell(owner, ops, lease, queues=queues)

        monkeypatch.setattr(store.ops, "tell", note)
        manager.op("resize")(work)

        assert await until(lambda: len(told) >= 3)


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
