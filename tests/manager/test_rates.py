"""Rates, as managers meet them: no more attempts begin in a window, in whatever process."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tapescope import BadSetting, Ops, RateLimit, Reporter, TaskManager, TaskStatus
from tapescope.testing import MemoryStore, until
from tests.support.workbench import working

PER = 0.2


async def note(report: Reporter, **params: Any) -> None:
    """A runner that is over at once."""


async def test_no_more_begin_in_a_window_of_two_managers(store_url: str) -> None:
    """Of a key that the submit names, and of all without one."""
    ops = Ops()
    send = ops.op("send", rate_limit=RateLimit(2, per=PER))(note)
    async with (
        TaskManager(store_url, ops=ops, poll=0.05) as first,
        TaskManager(store_url, ops=ops, poll=0.05) as second,
    ):
        handles = [
            await (first, second)[n % 2].submit("send", concurrency_key="a" if n % 4 == 0 else None)
            for n in range(12)
        ]
        begun: dict[str | None, list[int]] = {"a": [], "": []}
        for handle in handles:
            await handle.result(20)
            row = await handle.status()
            begun[row.concurrency_key].append(row.claimed_us or 0)

    assert send.rate_limit == RateLimit(2, per=PER)
    assert {key: len(times) for key, times in begun.items()} == {"a": 3, "": 9}
    assert all(
        later - at >= PER * 1_000_000
        for times in map(sorted, begun.values())
        for at, later in zip(times, times[2:], strict=False)
    )


async def test_a_task_waits_for_the_window(any_url: str) -> None:
    """It is pending and parked, and its cancel ends it at once; a firing needs a place, too."""
    async with working(any_url, poll=0.05) as bench:
        bench.manager.op("send", rate_limit=RateLimit(1, per=3600))(note)
        first, second = [await bench.manager.submit("send") for _ in range(2)]
        await first.result(20)
        waiting = await second.status()
        await second.cancel()
        ended = await second.status()
        await bench.manager.schedules.add("nightly", "send", every=86_400)
        fired = await bench.manager.schedules.trigger("nightly")
        parked = await fired.status()
        await fired.cancel()

    assert (waiting.status, waiting.parked, waiting.concurrency_key) == (
        TaskStatus.PENDING,
        True,
        "",
    )
    assert ended.status is TaskStatus.CANCELLED
    assert (parked.parked, parked.concurrency_key) == (True, "")


async def test_a_runner_may_wait_for_the_window_of_its_key(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That moves on by itself: nobody is told to raise anything."""
    async with working(sqlite_url, poll=0.05) as bench:

        @bench.manager.op("send", rate_limit=RateLimit(1, per=1.5))
        async def send(report: Reporter, last: bool = False) -> str:
            if last:
                return "done"
            task = await bench.manager.submit("send", params={"last": True})
            return str(await task.result())

        task = await bench.manager.submit("send")
        result = await task.result(20)

    assert result == "done"
    assert "waits for a slot" not in caplog.text


@pytest.mark.parametrize("times", [0, -1, 1.5, True, "many", 10_001])
def test_times_are_a_whole_number(times: Any) -> None:
    """From 1 to 10,000."""
    with pytest.raises(BadSetting, match=r"rate_limit\.times"):
        RateLimit(times, per=60)


@pytest.mark.parametrize("per", [0, -1, 1e-7, float("nan"), float("inf"), 1e12, True, "60", None])
def test_a_window_has_a_length(per: Any) -> None:
    """In seconds: over 0, and not more than a store can keep."""
    with pytest.raises(BadSetting, match=r"rate_limit\.per"):
        RateLimit(100, per=per)


@pytest.mark.parametrize("given", [100, "100/m", (100, 60)])
def test_a_rate_is_a_rate_limit(given: Any) -> None:
    """No other form is guessed."""
    with pytest.raises(BadSetting, match="RateLimit"):
        Ops().op("send", rate_limit=given)


def test_a_rate_limit_is_a_value() -> None:
    """It is compared by what it says, and the store has it in whole microseconds."""
    rate = RateLimit(5, per=1)

    assert (rate, rate.per_us) == (RateLimit(5, per=1.0), 1_000_000)
    assert repr(rate) == "RateLimit(times=5, per=1.0)"
    with pytest.raises(AttributeError):
        rate.times = 6  # type: ignore[misc]


async def test_the_store_is_told_of_it() -> None:
    """By a worker, with the op's other settings; and of its end."""
    async with MemoryStore() as store:

        async def told() -> tuple[int | None, int | None]:
            known = (await store.ops.read()).get("send")
            return (None, 0) if known is None else (known.rate_times, known.rate_per_us)

        for rate, expected in ((RateLimit(5, per=1), (5, 1_000_000)), (None, (None, None))):
            ops = Ops()
            ops.op("send", rate_limit=rate)(note)
            async with TaskManager(store, ops=ops):
                await until(partial(is_told, told, expected))


async def is_told(told: Any, expected: Any) -> bool:
    """Whether the store knows this rate."""
    return bool(await told() == expected)
