"""The managers for tests: judged at their end, and eager."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tapescope import (
    BadSetting,
    IdempotencyConflict,
    Ops,
    Outcome,
    Reporter,
    RetryPolicy,
    Submission,
    TaskFailed,
    TaskHandle,
    TaskStatus,
    ThreadReporter,
)
from tapescope.testing import (
    EagerManager,
    EagerSyncManager,
    HistoryBroken,
    JudgedManager,
    ManualClock,
    MemoryBackend,
    MemoryStore,
    TasksLeft,
    assert_tape,
    make_recorded_store,
    until,
)
from tapescope.testing.tasks import start

ops = Ops()


@ops.op("count")
async def count(report: Reporter, to: int = 2) -> int:
    """Counts."""
    for number in range(1, to + 1):
        await report.progress("count", number, to)
    return to


@ops.op("square")
def square(report: ThreadReporter, number: int) -> int:
    """In a thread."""
    report.log("info", "squaring")
    return number**2


@ops.op("fetch", retry=RetryPolicy(times=2, delay=60, jitter=0))
async def fetch(report: Reporter, fails: int = 2) -> int:
    """Fails in its first attempts."""
    if report.attempt <= fails:
        raise OSError("the server is away")
    return report.attempt


@ops.op("hang")
async def hang(report: Reporter) -> None:
    """Waits until it is stopped."""
    await report.log("info", "here")
    await asyncio.Event().wait()


@ops.op("parent")
async def parent(report: Reporter) -> int:
    """Submits another one."""
    return await (await square.submit(7)).result()


def manager_url(url: str) -> str | None:
    """As a manager for tests takes it."""
    return None if url == "memory:" else url


# --- judged ---------------------------------------------------------------------------------------


async def test_a_judged_manager_works_on_every_store(any_url: str) -> None:
    """It opens and closes its store, may be opened again, and is judged each time."""
    manager = JudgedManager(manager_url(any_url), ops=ops)
    for _ in range(2):
        async with manager:
            task = await square.submit(3)

            assert await task.result() == 9
        assert manager.was_ended
    assert [call.verb for call in manager.history.calls].count("create") == 2


def break_tape(manager: JudgedManager, task_id: str) -> None:
    """Take an event off the tape, past the store."""
    backend = manager.store.backend
    assert isinstance(backend, MemoryBackend)
    record = backend.find(task_id)
    assert record is not None
    del record.tape[1]


async def test_it_has_a_store_that_notes_its_calls() -> None:
    """For good: another one could not be judged."""
    plain: Any = MemoryStore()
    with pytest.raises(BadSetting, match="make_recorded_store"):
        JudgedManager(plain)
    manager = JudgedManager()
    with pytest.raises(BadSetting, match="judged on the one"):
        manager.reconfigure(store="sqlite:////nowhere/tasks.db")
    manager.reconfigure(drain=0.0)
    with pytest.raises(BadSetting, match="clock"):
        JudgedManager(make_recorded_store(), clock=ManualClock())


async def break_and_close(manager: JudgedManager, error: Exception | None = None) -> None:
    """A test whose tape is broken, and which may fail by itself."""
    async with manager:
        task = await count.submit()
        await task.result()
        break_tape(manager, task.task_id)
        if error is not None:
            raise error


async def test_a_breach_is_told_when_it_is_closed() -> None:
    """The invariant, the task, and what was done with the task."""
    manager = JudgedManager(ops=ops)
    with pytest.raises(HistoryBroken, match=r"I6 of .* \(progress\) is not") as raised:
        await break_and_close(manager)

    assert "append of attempt 1 (progress)" in str(raised.value)
    assert manager.was_ended


async def test_the_error_of_a_test_goes_first() -> None:
    """A breach beside it is a consequence, or noise."""
    manager = JudgedManager(ops=ops)
    with pytest.raises(ZeroDivisionError):
        await break_and_close(manager, ZeroDivisionError())

    assert manager.was_ended


async def test_a_task_that_still_runs_at_the_end_is_named() -> None:
    """Of an op, and of a callable; not what waits for its time, nor what has ended."""
    left: list[str] = []

    async def leave_two() -> None:
        async with JudgedManager(ops=ops, drain=0) as manager:
            running = await manager.submit("alone", hang.runner.call), await hang.submit()
            await count.options(delay=3_600).submit()
            await manager.submit("later", count.runner.call, delay=3_600)
            await (await count.submit()).result()
            for task in running:
                left.append(task.task_id)
                async for event in task.follow():
                    if event.type == "log":
                        break

    with pytest.raises(TasksLeft, match="2 tasks still ran") as raised:
        await leave_two()

    assert [task.task_id for task in raised.value.tasks] == left
    assert f"hang {left[1]}, attempt 1" in str(raised.value)


async def test_a_test_of_a_shutdown_closes_by_itself() -> None:
    """What its manager stops then is what the test is about."""
    async with JudgedManager(ops=ops, drain=0) as manager:
        task = await hang.submit()
        async for event in task.follow():
            if event.type == "log":
                break
        await manager.aclose()


# --- eager ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_submit_returns_when_the_task_has_ended(kind: str, sqlite_url: str) -> None:
    """By each verb, in the loop and in a thread, with a tape as always."""
    async with EagerManager(None if kind == "memory" else sqlite_url, ops=ops) as manager:
        handles = [
            await count.submit(3),
            await manager.submit("square", params={"number": 2}),
            await manager.submit("mine", count.runner.call),
            *await manager.submit_many([square.bind(3), Submission("count")]),
            await parent.submit(),
        ]
        handles.append(await manager.resubmit(handles[0].task_id))
        tasks = [await handle.status() for handle in handles]

        assert {task.status for task in tasks} == {TaskStatus.SUCCEEDED}
        assert [await handle.result() for handle in handles] == [3, 4, 2, 9, 2, 49, 3]
        assert_tape(await handles[0].tape(), ["task_started", *["progress"] * 3, Outcome.SUCCEEDED])


async def test_retries_take_no_time() -> None:
    """The clock of the manager is moved on between two attempts."""
    async with EagerManager(ops=ops) as manager:
        good, bad = await fetch.submit(), await fetch.submit(fails=9)

        assert await good.result() == 3
        assert manager.clock is not None
        assert manager.clock.ahead >= 180
        with pytest.raises(TaskFailed, match="away"):
            await bad.result()
        assert (await bad.status()).attempt == 3


async def test_what_waits_for_something_is_not_waited_for() -> None:
    """For its time, for a worker of another program, for the submit of a key that came first."""
    async with EagerManager(ops=ops) as manager:
        later = await count.options(delay=3_600).submit()
        foreign = await manager.submit("elsewhere")
        first = await count.options(idempotency_key="a").submit(1)
        second = await count.options(idempotency_key="a").submit(1)
        with pytest.raises(IdempotencyConflict):
            await count.options(idempotency_key="a").submit(2)

        assert (await later.status()).status is TaskStatus.PENDING
        assert (await foreign.status()).status is TaskStatus.PENDING
        assert first.task_id == second.task_id


def test_in_a_loop_whose_timers_are_its_own_retries_take_their_time() -> None:
    """As uvloop's are: a submit waits for them all the same."""
    uvloop = pytest.importorskip("uvloop")
    again = RetryPolicy(times=1, delay=0.01)

    async def submit() -> None:
        async with EagerManager() as manager:
            task = await manager.submit(
                "fetch", fetch.runner.call, params={"fails": 1}, retry=again
            )

            assert await task.result() == 2

    uvloop.run(submit())


async def test_an_eager_manager_works() -> None:
    """It is what runs the tasks."""
    with pytest.raises(BadSetting, match="work"):
        EagerManager(ops=ops, work=False)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_the_sync_door_is_eager_too(kind: str, sqlite_url: str) -> None:
    """A plain call returns when the task has ended."""
    with EagerSyncManager(None if kind == "memory" else sqlite_url, ops=ops) as manager:
        handle = manager.submit_bound(count.bind(3))
        many = manager.submit_many([square.bind(3), square.bind(4)])
        named = manager.submit("square", params={"number": 5})

        assert handle.status().status is TaskStatus.SUCCEEDED
        assert handle.result() == 3
        assert [one.status().status for one in many] == [TaskStatus.SUCCEEDED] * 2
        assert named.result() == 25
        assert_tape(handle.tape(), ["task_started", *["progress"] * 3, Outcome.SUCCEEDED])


def test_a_breach_is_told_by_the_sync_door() -> None:
    """At its close."""
    store = make_recorded_store()
    manager = EagerSyncManager(store, ops=ops).open()
    task_id = manager.submit_bound(count.bind()).task_id
    backend = store.backend
    assert isinstance(backend, MemoryBackend)
    record = backend.find(task_id)
    assert record is not None
    del record.tape[1]
    with pytest.raises(HistoryBroken, match="I6"):
        manager.close()


# --- a database for tests -------------------------------------------------------------------------


async def test_a_store_for_tests_is_emptied(store_url: str) -> None:
    """Of what ended, of what waits, of late events; also of what a killed test has left running."""
    for _ in range(2):
        async with JudgedManager(store_url, ops=ops, clean=True) as manager:
            counts = await manager.store.count()
            await (await square.submit(2)).result()
            await count.options(delay=3_600, idempotency_key="k").submit()

            assert sum(counts.values()) == 0


async def test_the_data_of_others_is_refused(store_url: str) -> None:
    """A store that was not seen to be empty is not a test's; nothing in it is changed."""
    async with JudgedManager(store_url) as manager:
        task = await manager.submit("work", delay=3_600)
    other = JudgedManager(store_url, clean=True)
    expected = re.escape("with 1 tasks that no test made")
    with pytest.raises(BadSetting, match=expected):
        await other.open()
    async with JudgedManager(store_url) as manager:
        assert (await manager.handle(task.task_id).status()).status is TaskStatus.PENDING
    assert other.was_ended
    with pytest.raises(BadSetting, match="clean"):
        JudgedManager(clean=True)


async def test_a_store_in_which_a_task_runs_is_refused(sqlite_url: str) -> None:
    """Another process uses it; what the owner of a killed test left is ended instead."""
    async with JudgedManager(sqlite_url, ops=ops, clean=True):
        task = await hang.submit()
        async for event in task.follow():
            if event.type == "log":
                break
        with pytest.raises(BadSetting, match="one that no other process uses"):
            await JudgedManager(sqlite_url, clean=True).open()
        await task.cancel()
        await until(lambda: is_terminal(task))


async def is_terminal(task: TaskHandle) -> bool:
    """Whether the task has ended."""
    return (await task.status()).status.terminal


async def test_what_a_killed_test_has_left_running_is_ended(sqlite_url: str) -> None:
    """Its owner is dead, or its lease over."""
    async with JudgedManager(sqlite_url, clean=True):
        pass
    store = make_recorded_store(sqlite_url)
    async with store:
        claims = [await start(store), await start(store)]
        await store.leases.extend("here:1:0:aa", 0.000_001, claims)
    async with JudgedManager(sqlite_url, clean=True) as manager:
        assert sum((await manager.store.count()).values()) == 0
