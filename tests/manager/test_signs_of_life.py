"""The inside of a process in its metrics: its loop, its heartbeats and leases, its write queue."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar

import pytest

from tapescope import Reporter, TaskManager
from tapescope.manager import loop_lag
from tapescope.manager.loop_lag import LoopLag
from tapescope.model import NewTask
from tapescope.store import Flush, FlushAnswer, StoreAway
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryBackend, MemoryStore, until
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.workbench import make_store

SIGNS = ("tapescope.loop.lag", "tapescope.heartbeat.age", "tapescope.lease.margin")


class Slow(MemoryBackend):
    """A store that writes when it is let, and is away when it is told to be."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = asyncio.Event()
        self.away = False

    async def write(self, flush: Flush) -> FlushAnswer:
        """Wait first."""
        await self.may_write.wait()
        return await super().write(flush)

    async def probe(self) -> None:
        """As a store that does not answer, or one that does."""
        if self.away:
            raise StoreAway("the cable was pulled")


async def test_a_manager_shows_signs_of_life_while_it_is_open(
    store_url: str, captured: CapturedTelemetry
) -> None:
    """From its opening to its end, whether something runs or not; afterwards there are none."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def work(report: Reporter) -> None:
        begun.set()
        await over.wait()

    async with (
        make_store(store_url, captured) as store,
        TaskManager(store, lease=60, heartbeat=50) as manager,
    ):
        idle = captured.value("tapescope.lease.margin")
        age = captured.value("tapescope.heartbeat.age")
        task = await manager.submit("resize", work)
        await begun.wait()
        running = captured.value("tapescope.lease.margin")
        lease = captured.value("tapescope.lease.duration")
        lag = captured.value("tapescope.loop.lag")
        over.set()
        await task.result()
    left = [captured.points(name) for name in SIGNS]

    assert (idle, lease) == (60, 60)
    assert 0 <= age < 50
    assert 0 < running < 60
    assert 0 <= lag < 50
    assert left == [[], [], []]


async def test_a_heartbeat_that_the_store_does_not_answer_gets_old(
    captured: CapturedTelemetry,
) -> None:
    """Its age goes on from the last that was answered, and begins anew with the next."""
    backend = Slow()

    def read_age() -> float:
        return captured.value("tapescope.heartbeat.age")

    store = MemoryStore(telemetry=captured.telemetry, patience=0.01, backend=backend)
    async with store, TaskManager(store, lease=1, heartbeat=0.01):
        backend.away = True
        assert await until(lambda: read_age() > 0.2)
        backend.away = False
        assert await until(lambda: read_age() < 0.2)


async def test_calls_that_wait_for_a_flush_are_told(captured: CapturedTelemetry) -> None:
    """How many they are while they wait, and for how long the first of each flush did."""
    backend = Slow()
    async with MemoryStore(telemetry=captured.telemetry, backend=backend) as store:
        new = [NewTask(new_task_id(), "resize") for _ in range(3)]
        born = captured.value("tapescope.store.queue.depth")
        calls = [asyncio.ensure_future(store.create(one)) for one in new]
        assert await until(lambda: captured.value("tapescope.store.queue.depth") == 3)
        backend.may_write.set()
        await asyncio.gather(*calls)
        flushes = captured.value("tapescope.store.flush.wait_time")
        after = captured.value("tapescope.store.queue.depth")

    assert (born, after) == (0, 0)
    assert 1 <= flushes <= 3
    assert captured.points("tapescope.store.queue.depth") == []


async def test_a_loop_that_is_blocked_is_late_while_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread sees that at once; it is remembered for a minute at least, and two at most."""
    monkeypatch.setattr(loop_lag, "_EVERY", 0.0)
    skipped = [0]
    lag = LoopLag(lambda: time.monotonic() + skipped[0])

    async def pass_time() -> float:
        """A minute and more, in steps that are shorter than the block."""
        for _ in range(61):
            skipped[0] += 1
            await asyncio.sleep(0)
        return lag.read()

    lag.start()
    fresh = lag.read()
    skipped[0] += 30
    blocked = lag.read()
    await asyncio.sleep(0)
    remembered = [await pass_time(), await pass_time(), await pass_time()]
    lag.stop()
    lag.stop()

    assert fresh < 30 <= blocked
    assert remembered[0] >= 30 > remembered[2]


async def test_a_timer_is_in_no_callers_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of who opened the manager is kept for as long as that is open."""
    monkeypatch.setattr(loop_lag, "_EVERY", 0.0)
    callers = ContextVar("callers", default="nobody")
    callers.set("the opener")
    seen: list[str] = []

    def read_clock() -> float:
        seen.append(callers.get())
        return time.monotonic()

    lag = LoopLag(read_clock)
    lag.start()
    at_start = len(seen)
    assert await until(lambda: len(seen) > at_start)
    lag.stop()

    assert set(seen[:at_start]) == {"the opener"}
    assert set(seen[at_start:]) == {"nobody"}
