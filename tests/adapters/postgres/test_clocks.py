"""Due times go by the server's clock, whatever the clock of the process says."""

from __future__ import annotations

import pytest

from tapescope import Reporter, TaskManager
from tapescope.clock import Clock
from tapescope_adapters.postgres import PostgresStore
from tapescope_telemetry import Telemetry
from tests.support.captured_telemetry import CapturedTelemetry

HOUR = 3600
DELAY = 0.3
"""Seconds; due times must be right to 0.2."""


class SetClock(Clock):
    """A wall clock that is wrong, and may be set."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        """Seconds."""

    def now(self) -> int:
        """The wrong time."""
        return super().now() + round(self.ahead * 1e6)


class Flaky:
    """A runner that fails once."""

    calls = 0

    async def __call__(self, report: Reporter) -> int:
        """Fail, or give the number of the call."""
        self.calls += 1
        if self.calls == 1:
            raise ValueError("not yet")
        return self.calls


async def succeed(report: Reporter) -> int:
    """Return."""
    return 1


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_due_times_are_the_servers(postgres_url: str, ahead: float) -> None:
    """A delay and a backoff last as long as they say, of a callable and of a registered op."""
    clock = SetClock(ahead)
    async with (
        PostgresStore(postgres_url, clock=clock) as store,
        TaskManager(store, poll=HOUR, heartbeat=HOUR, lease=2 * HOUR, retry_delay=0.2) as manager,
    ):
        manager.op("named")(succeed)
        delayed = await manager.submit("delayed", succeed, delay=DELAY)
        named = await manager.submit("named", delay=DELAY)
        flaky = await manager.submit("flaky", Flaky(), retries=1)
        for handle in (delayed, named, flaky):
            await handle.result(timeout=20)
        rows = [await handle.status() for handle in (delayed, named)]
        again = await flaky.status()

    for row in rows:
        assert (row.run_us - row.created_us) / 1e6 == pytest.approx(DELAY, abs=0.2)
        assert row.claimed_us is not None
        assert (row.claimed_us - row.run_us) / 1e6 == pytest.approx(0.25, abs=0.25)
    assert again.attempt == 2
    assert (again.run_us - again.created_us) / 1e6 < 2  # with the process's clock it was an hour


@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["forward", "back"])
async def test_a_clock_that_is_set_moves_no_due_time(postgres_url: str, by: float) -> None:
    """The wall clock is set while the store is open: the next delay is as long as it says."""
    clock = SetClock(0)
    async with PostgresStore(postgres_url, clock=clock) as store, TaskManager(store) as manager:
        clock.ahead = by
        handle = await manager.submit("delayed", succeed, delay=DELAY)
        result = await handle.result(timeout=20)
        row = await handle.status()

    assert result == 1
    assert (row.run_us - row.created_us) / 1e6 == pytest.approx(DELAY, abs=0.2)


async def test_a_skew_is_measured_and_warned_of(
    postgres_url: str, captured: CapturedTelemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """A heartbeat finds how far the clocks are apart: on a gauge, and in the log once."""
    clock = SetClock(HOUR)
    telemetry: Telemetry = captured.telemetry
    async with (
        PostgresStore(postgres_url, clock=clock, telemetry=telemetry) as store,
        TaskManager(store, heartbeat=HOUR, lease=2 * HOUR) as manager,
    ):
        heartbeat = manager._heartbeat  # pyright: ignore[reportPrivateUsage]  # counted, not timed
        await heartbeat.run_once()
        await heartbeat.run_once()
        ahead = captured.value("tapescope.store.clock.skew")
        clock.ahead = 0
        await heartbeat.run_once()
        right = captured.value("tapescope.store.clock.skew")

    assert ahead == pytest.approx(-HOUR, abs=1)
    assert right == pytest.approx(0, abs=1)
    assert caplog.text.count("3600.0 s behind this process's") == 1


async def test_times_that_go_back_make_no_negative_duration(
    postgres_url: str, captured: CapturedTelemetry
) -> None:
    """A clock that is set back while a task runs and is cancelled gives no time below zero."""
    clock = SetClock(0)
    async with (
        PostgresStore(postgres_url, clock=clock, telemetry=captured.telemetry) as store,
        TaskManager(store) as manager,
    ):
        waiting = await manager.submit("late", succeed, delay=HOUR)
        clock.ahead = -HOUR
        await waiting.cancel("enough")
        ages = list(manager._pool.read_ages())  # pyright: ignore[reportPrivateUsage]  # what the gauge reads
        done = await manager.submit("now", succeed)
        await done.result(timeout=20)
    sums = [
        point.point.sum
        for name in ("tapescope.task.duration", "tapescope.task.queue.wait_time")
        for point in captured.points(name)
    ]

    assert sums
    assert all(value >= 0 for value in sums)
    assert all(age >= 0 for _, age in ages)
