"""One scheduler: what it makes of the times that have passed, and what it does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tapescope import Schedule, StoreRefused, StoreUnavailable, TaskStore
from tapescope.model.schedules import CatchUp, Overlap
from tapescope.schedules import MOST_CAUGHT_UP, Scheduler
from tapescope.testing import MemoryStore, until
from tests.schedules.harness import (
    HOUR,
    START,
    HandClock,
    add,
    end_all,
    list_fired,
    make_fire,
    make_scheduler,
)
from tests.support.captured_telemetry import CapturedTelemetry

H = 3_600
FIRINGS = "tapescope.schedule.firings"


@pytest.fixture
def clock() -> HandClock:
    """Stands at the start."""
    return HandClock()


@pytest.fixture
async def store(clock: HandClock, captured: CapturedTelemetry) -> AsyncIterator[TaskStore]:
    """A store in memory that goes by the clock."""
    async with MemoryStore(clock=clock, telemetry=captured.telemetry) as store:
        yield store


async def pass_hours(scheduler: Scheduler, clock: HandClock, hours: int) -> None:
    """Let time pass an hour at a time, with a round after each."""
    for _ in range(hours):
        clock.pass_time(H)
        await scheduler.run_once()


async def test_each_time_makes_a_task(store: TaskStore, clock: HandClock) -> None:
    """With the schedule's op and params; a round between two times makes none."""
    await add(store, clock)
    scheduler = make_scheduler(store, clock)
    await scheduler.run_once()
    await pass_hours(scheduler, clock, 3)
    await scheduler.run_once()
    (task, *_) = (await store.list()).tasks
    schedule = await store.schedules.get("s")

    assert await list_fired(store) == [H, 2 * H, 3 * H]
    assert (task.op, task.params) == ("work", {"n": 1})
    assert (schedule.last_us, schedule.last_task) == (START + 3 * HOUR, task.task_id)
    assert schedule.next_us == START + 4 * HOUR


async def test_a_round_says_when_the_next_is_worth_while(
    store: TaskStore, clock: HandClock
) -> None:
    """At the next time, and within five seconds for what other processes add meanwhile."""
    scheduler = make_scheduler(store, clock)
    empty = await scheduler.run_once()
    await add(store, clock)
    far = await scheduler.run_once()
    clock.pass_time(H - 2)
    near = await scheduler.run_once()

    assert (empty, far, near) == (5.0, 5.0, 2.0)


@pytest.mark.parametrize(
    ("policy", "fired", "counts"),
    [
        (CatchUp.SKIP, [], {"missed": 10}),
        (CatchUp.ONE, [10], {"missed": 9, "caught_up": 1}),
        (CatchUp.ALL, [*range(1, 11)], {"caught_up": 10}),
    ],
)
async def test_what_passed_unseen_is_caught_up_with_by_policy(
    store: TaskStore,
    clock: HandClock,
    captured: CapturedTelemetry,
    policy: CatchUp,
    fired: list[int],
    counts: dict[str, int],
) -> None:
    """Ten times passed, and the last one two minutes ago; then the times go on."""
    await add(store, clock, catch_up=policy)
    scheduler = make_scheduler(store, clock)
    clock.pass_time(10 * H + 120)
    await scheduler.run_once()
    caught_up = await list_fired(store)
    clock.pass_time(H - 120)
    await scheduler.run_once()

    assert caught_up == [n * H for n in fired]
    assert await list_fired(store) == [*caught_up, 11 * H]
    assert read_firings(captured) == {**counts, "fired": 1}


async def test_a_time_within_a_minute_is_not_late(store: TaskStore, clock: HandClock) -> None:
    """A worker that is a little late fires, also where nothing is caught up with."""
    await add(store, clock, catch_up=CatchUp.SKIP)
    clock.pass_time(3 * H + 60)
    await make_scheduler(store, clock).run_once()

    assert await list_fired(store) == [3 * H]


async def test_catching_up_is_bounded(store: TaskStore, clock: HandClock) -> None:
    """After a year the last hundred times of each minute are made, and no more."""
    await add(store, clock, catch_up=CatchUp.ALL, cron="* * * * *", time_zone="Europe/Berlin")
    clock.pass_time(365 * 24 * H)
    await make_scheduler(store, clock).run_once()
    fired = await list_fired(store)

    assert fired == [365 * 24 * H - 60 * n for n in reversed(range(MOST_CAUGHT_UP))]


async def test_an_overlap_is_left_out_where_it_is_not_wanted(
    store: TaskStore, clock: HandClock, captured: CapturedTelemetry
) -> None:
    """None is made while the task before has not ended; one that was pruned has ended."""
    await add(store, clock, overlap=Overlap.SKIP)
    scheduler = make_scheduler(store, clock)
    await pass_hours(scheduler, clock, 3)
    during = await list_fired(store)
    await end_all(store)
    await pass_hours(scheduler, clock, 1)
    await end_all(store)
    await store.backend.delete_tasks([1, 2], 0)
    await pass_hours(scheduler, clock, 1)

    assert during == [H]
    assert await list_fired(store) == [5 * H]
    assert read_firings(captured) == {"fired": 3, "overlapped": 2}


async def test_of_what_is_caught_up_with_one_runs_at_a_time(
    store: TaskStore, clock: HandClock
) -> None:
    """Where overlaps are left out, the first of all the times has a task, and the others none."""
    await add(store, clock, overlap=Overlap.SKIP, catch_up=CatchUp.ALL)
    clock.pass_time(5 * H)
    await make_scheduler(store, clock).run_once()

    assert await list_fired(store) == [H]


async def test_a_paused_schedule_makes_nothing(store: TaskStore, clock: HandClock) -> None:
    """And does not hold up the others."""
    schedule = await add(store, clock)
    await store.schedules.change_if_same(replace(schedule, paused=True))
    await add(store, clock, "other")
    await pass_hours(make_scheduler(store, clock), clock, 2)

    assert [task.idempotency_key for task in (await store.list()).tasks] == [
        "schedule:other@2027-01-15T10:00:00.000000Z",
        "schedule:other@2027-01-15T09:00:00.000000Z",
    ]


async def test_an_op_that_no_worker_knows_waits_for_one(
    store: TaskStore, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is warned of once, is in nobody's way, and is caught up with once it is known."""
    await add(store, clock, op="unknown")
    await add(store, clock, "other")
    with caplog.at_level(logging.WARNING, logger="tapescope"):
        await pass_hours(make_scheduler(store, clock), clock, 3)
    without = await list_fired(store)

    async def knows(op: str) -> bool:
        return True

    clock.pass_time(60)
    await make_scheduler(store, clock, knows=knows).run_once()

    assert without == [H, 2 * H, 3 * H]
    assert await list_fired(store) == [H, 2 * H, 3 * H, 3 * H]
    assert [record.message for record in caplog.records] == [
        "The schedule s is not fired: no worker has registered the op 'unknown'; it waits for one"
    ]


async def test_a_row_that_cannot_be_read_holds_up_no_other(
    store: TaskStore, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Times that this machine cannot reckon are warned of, and stay as they are."""
    bad = await add(store, clock)
    await store.schedules.change_if_same(replace(bad, every=None, cron="0 0 31 2 *"))
    await add(store, clock, "other")
    with caplog.at_level(logging.WARNING, logger="tapescope"):
        await pass_hours(make_scheduler(store, clock), clock, 2)

    assert await list_fired(store) == [H, 2 * H]
    assert "its times cannot be read here" in caplog.text
    assert (await store.schedules.get("s")).next_us == START + HOUR


@pytest.mark.parametrize("error", [StoreRefused("its row is refused"), ZeroDivisionError()])
async def test_what_is_wrong_with_one_holds_up_no_other(
    store: TaskStore, clock: HandClock, error: Exception
) -> None:
    """A schedule whose tasks the store refuses, or that meets a defect, stays due alone."""
    fire = make_fire(store)

    async def fire_or_fail(schedule: Schedule, at: int) -> tuple[str, bool]:
        if schedule.name == "bad":
            raise error
        return await fire(schedule, at)

    for name in ("bad", "good"):
        await add(store, clock, name)
    await pass_hours(make_scheduler(store, clock, fire=fire_or_fail), clock, 2)

    assert await list_fired(store) == [H, 2 * H]
    assert (await store.schedules.get("bad")).next_us == START + HOUR


class Died(BaseException):
    """The process ended here."""


@pytest.mark.parametrize("made", [False, True])
async def test_what_a_crash_leaves_is_fired_once(
    store: TaskStore, clock: HandClock, captured: CapturedTelemetry, made: bool
) -> None:
    """Whether the task was made before its worker died or not, there is one, counted once."""
    await add(store, clock)
    fire = make_fire(store)

    async def die(schedule: Schedule, at: int) -> tuple[str, bool]:
        if made:
            await fire(schedule, at)
        raise Died

    clock.pass_time(H)
    with pytest.raises(Died):
        await make_scheduler(store, clock, "a", fire=die).run_once()
    await make_scheduler(store, clock, "b").run_once()
    during_lease = len(await list_fired(store))
    clock.pass_time(16)
    await make_scheduler(store, clock, "b").run_once()

    assert during_lease == made
    assert await list_fired(store) == [H]
    assert (await store.schedules.get("s")).last_us == START + HOUR
    assert read_firings(captured) == ({} if made else {"fired": 1})


async def test_two_that_fire_at_once_make_one_task(store: TaskStore, clock: HandClock) -> None:
    """One that was silent for longer than its lease goes on where the other has been."""
    await add(store, clock)
    go_on, fire = asyncio.Event(), make_fire(store)

    async def fire_late(schedule: Schedule, at: int) -> tuple[str, bool]:
        await go_on.wait()
        return await fire(schedule, at)

    clock.pass_time(H)
    late = asyncio.create_task(make_scheduler(store, clock, "a", fire=fire_late).run_once())
    await asyncio.sleep(0)
    clock.pass_time(16)
    other = make_scheduler(store, clock, "b")
    await other.run_once()
    go_on.set()
    await late
    clock.pass_time(H - 16)
    await other.run_once()

    assert await list_fired(store) == [H, 2 * H]


async def test_a_change_while_it_is_fired_stays(store: TaskStore, clock: HandClock) -> None:
    """Who pauses a schedule at that moment has paused it, and its last task is known."""
    await add(store, clock)
    fire = make_fire(store)

    async def pause(schedule: Schedule, at: int) -> tuple[str, bool]:
        await store.schedules.change("s", lambda kept: replace(kept, paused=True))
        return await fire(schedule, at)

    scheduler = make_scheduler(store, clock, fire=pause)
    await pass_hours(scheduler, clock, 3)
    schedule = await store.schedules.get("s")

    assert await list_fired(store) == [H]
    assert schedule.paused
    assert schedule.last_us == START + HOUR


async def test_a_clock_that_was_ahead_puts_nothing_off(store: TaskStore, clock: HandClock) -> None:
    """Once the clock is right again, the times go on from there, and none comes twice."""
    await add(store, clock)
    scheduler = make_scheduler(store, clock)
    await pass_hours(scheduler, clock, 1)
    clock.at += 1_000 * HOUR
    await scheduler.run_once()
    ahead = await list_fired(store)
    clock.at -= 1_000 * HOUR
    clock.steady += 601
    await scheduler.run_once()
    schedule = await store.schedules.get("s")
    await pass_hours(scheduler, clock, 2)

    assert ahead == [H, 1_001 * H]
    assert schedule.next_us == START + 2 * HOUR
    assert await list_fired(store) == [*ahead, 2 * H, 3 * H]


async def test_a_clock_that_is_set_back_makes_no_task_twice(
    store: TaskStore, clock: HandClock
) -> None:
    """Times that were fired come again on the clock, and have their tasks already."""
    await add(store, clock)
    scheduler = make_scheduler(store, clock)
    await pass_hours(scheduler, clock, 3)
    clock.at -= 3 * HOUR
    clock.steady += 601
    await pass_hours(scheduler, clock, 5)

    assert await list_fired(store) == [H, 2 * H, 3 * H, 4 * H, 5 * H]


async def test_a_store_that_is_away_is_asked_again(
    store: TaskStore, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round raises while it is away, and fires what passed once it is back."""
    await add(store, clock, catch_up=CatchUp.ALL)
    scheduler = make_scheduler(store, clock)
    clock.pass_time(2 * H)
    with monkeypatch.context() as patched:

        async def raise_away(*_: Any) -> bool:
            raise StoreUnavailable("memory", "it is away")

        patched.setattr(store.schedules, "change_if_same", raise_away)
        with pytest.raises(StoreUnavailable):
            await scheduler.run_once()
    await scheduler.run_once()

    assert await list_fired(store) == [H, 2 * H]
    assert (await store.schedules.get("s")).next_us == START + 3 * HOUR


async def test_who_stops_lets_another_fire_at_once(store: TaskStore, clock: HandClock) -> None:
    """It resigns, whatever its lease; a round of another one fires what is due."""
    await add(store, clock)
    clock.pass_time(H)
    one = make_scheduler(store, clock, "a")
    one.start()

    async def has_fired() -> bool:
        return bool(await list_fired(store))

    assert await until(has_fired)
    clock.pass_time(H - 1)
    await one.run_once()
    await one.stop()
    clock.pass_time(1)
    await make_scheduler(store, clock, "b").run_once()

    assert await list_fired(store) == [H, 2 * H]


def read_firings(captured: CapturedTelemetry) -> dict[str, int]:
    """How many firings there were, by outcome."""
    points = captured.points(FIRINGS)
    return {str(one.labels["tapescope.schedule.outcome"]): int(one.value) for one in points}
