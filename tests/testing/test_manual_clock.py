"""Time that a test moves on by hand."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time

import pytest

from tapescope import (
    BadSetting,
    Ops,
    Reporter,
    RetryPolicy,
    TaskFailed,
    TaskStatus,
    ThreadReporter,
)
from tapescope.model.tasks import NewTask
from tapescope.store import new_task_id
from tapescope.testing import JudgedManager, ManualClock, assert_tape, until

ops = Ops()


@ops.op("fetch", retry=RetryPolicy(times=2, delay=600, factor=1, most=600, jitter=0))
async def fetch(report: Reporter) -> int:
    """Fails until its third attempt."""
    if report.attempt < 3:
        raise OSError("the server is away")
    return report.attempt


@ops.op("doze", timeout=7_200, retries=0)
async def doze(report: Reporter, seconds: float) -> str:
    """Sleeps for so long."""
    await report.log("info", "good night")
    await asyncio.sleep(seconds)
    return "awake"


@ops.op("rest", retries=1)
async def rest(report: Reporter) -> int:
    """Gives its attempt."""
    return report.attempt


async def test_delays_retries_and_sleeps_take_no_time() -> None:
    """Each is over when the clock was moved past it, and not before."""
    began = time.monotonic()
    clock = ManualClock()
    async with JudgedManager(clock=clock, ops=ops):
        later = await rest.options(delay=3_600).submit()
        again = await fetch.submit()
        asleep = await doze.submit(5_000)
        await clock.advance(590)
        waiting = await again.status()
        await clock.advance(20)
        second = await again.status()
        await clock.advance(700)
        third = await again.status()
        await clock.advance(2_200)
        early = await later.status()
        await clock.advance(100)
        due = await later.status()
        still = await asleep.status()
        await clock.advance(1_500)

        assert (waiting.status, waiting.attempt) == (TaskStatus.PENDING, 1)
        assert (second.status, second.attempt) == (TaskStatus.PENDING, 2)
        assert third.status is TaskStatus.SUCCEEDED
        assert early.status is TaskStatus.PENDING
        assert due.status is TaskStatus.SUCCEEDED
        assert still.status is TaskStatus.RUNNING
        assert await asleep.result() == "awake"
        assert_tape(
            await again.tape(),
            [
                *["task_started", "attempt_failed"] * 2,
                "task_started",
                ("final", {"outcome": "succeeded", "result": 3}),
            ],
        )
    assert clock.ahead == pytest.approx(5_110)
    assert time.monotonic() - began < clock.ahead / 10


async def test_a_timeout_comes_as_the_clock_passes_it() -> None:
    """A runner that would sleep on is stopped."""
    clock = ManualClock()
    async with JudgedManager(clock=clock, ops=ops) as manager:
        task = await doze.submit(1_000_000)
        await clock.advance(7_000)
        before = await task.status()
        await clock.advance(500)

        assert before.status is TaskStatus.RUNNING
        with pytest.raises(TaskFailed, match="timeout"):
            await task.result()
        assert manager.clock is clock


async def test_leases_go_by_it() -> None:
    """A run of this manager keeps its lease; what nobody renews is rescued, and run again."""
    clock = ManualClock()
    async with JudgedManager(clock=clock, ops=ops, lease=30, heartbeat=10) as manager:
        mine = await doze.submit(3_600)
        await clock.advance(1)
        task, _ = await manager.store.create(NewTask(new_task_id(), "lost"))
        claim = await manager.store.claim_if_pending(task, "there:1:0:aa", 30)
        await clock.advance(15)
        held = await manager.store.get(task.task_id)
        await clock.advance(60)
        lost = await manager.store.get(task.task_id)
        await clock.advance(3_600)

        assert claim is not None
        assert held.status is TaskStatus.RUNNING
        assert (lost.status, lost.error_code) == (TaskStatus.FAILED, "worker_lost")
        assert await mine.result() == "awake"
        assert (await mine.status()).attempt == 1


async def test_a_function_in_a_thread_has_time_for_its_work() -> None:
    """A long way is gone after it has ended; one that never ends is not waited for."""
    go_on = threading.Event()
    clock = ManualClock()

    def work(report: ThreadReporter) -> int:
        for number in range(5):  # each waits for the loop, and then works where it does not see it
            report.log("info", f"at work: {number}")
            hashlib.pbkdf2_hmac("sha256", b"work", b"salt", 50_000)
        if report.attempt == 1:
            raise OSError("away")
        return report.attempt

    def block(report: ThreadReporter) -> None:
        go_on.wait(30)

    again = RetryPolicy(times=1, delay=100, jitter=0)
    async with JudgedManager(clock=clock, cancel_grace=0) as manager:
        task = await manager.submit("work", work, timeout=60, retry=again)
        await clock.advance(3_600)
        blocked = await manager.submit("block", block, timeout=60)
        await clock.advance(3_600)
        go_on.set()

        assert await task.result() == 2
        assert (await blocked.status()).error_code == "timeout"


async def test_time_goes_on_by_itself() -> None:
    """What needs real time has it between two calls."""
    clock = ManualClock()
    before = clock.now(), clock.monotonic()
    clock.attach()
    await until(lambda: clock.now() > before[0] and clock.monotonic() > before[1])
    slept = asyncio.get_running_loop().time()
    await asyncio.sleep(0.001)

    assert asyncio.get_running_loop().time() - slept >= 0.001
    assert clock.ahead == 0


async def test_two_clocks_share_the_timers_of_a_loop() -> None:
    """Each has a time of its own, and one loop's timers go by both together."""
    first, second = ManualClock(), ManualClock()
    sleeping = asyncio.create_task(asyncio.sleep(100))
    await first.advance(60)
    early = sleeping.done()
    await second.advance(50)

    assert not early
    assert sleeping.done()
    assert first.ahead == pytest.approx(60)
    assert second.ahead == pytest.approx(50)


async def test_what_is_over_is_forgotten() -> None:
    """A loop that lives for long keeps no timers of the past."""
    clock = ManualClock()
    clock.attach()
    loop = asyncio.get_running_loop()
    for _ in range(5_000):
        loop.call_later(60, print).cancel()
    kept = vars(loop)["_tapescope_time"]

    assert len(kept._timers) <= 1_000


async def test_what_cannot_be_moved_is_refused() -> None:
    """A time before now, and a database, whose leases go by real time."""
    clock = ManualClock()
    with pytest.raises(BadSetting, match="seconds"):
        await clock.advance(-1)
    with pytest.raises(BadSetting, match="clock"):
        JudgedManager("sqlite:////nowhere/tasks.db", clock=clock)


def test_the_timers_of_another_kind_of_loop_are_refused() -> None:
    """Those of uvloop are not Python's."""
    uvloop = pytest.importorskip("uvloop")

    async def move() -> None:
        with pytest.raises(BadSetting, match="asyncio's own"):
            await ManualClock().advance(1)

    uvloop.run(move())
