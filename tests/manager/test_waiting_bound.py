"""A bound on what waits of an op: submits beyond it are refused, at each door, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tapescope import (
    BadSetting,
    OpFull,
    Ops,
    Reporter,
    StoreUnavailable,
    Submission,
    TaskManager,
    find_store,
)
from tapescope.manager import backlog_reader, known_ops, waiting_bound
from tapescope.model.backlog import Backlog
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import NewTask, Task
from tapescope.sync import SyncManager
from tapescope.testing import MemoryStore, until
from tapescope_adapters.sqlite import _backend as sqlite_backend
from tapescope_adapters.sqlite._backend import SqliteBackend
from tests.support.callers import calling
from tests.support.captured_telemetry import CapturedTelemetry


async def note(report: Reporter, **params: Any) -> None:
    """A runner that is over at once."""


def make_ops(most: int | None) -> Ops:
    """One op of which so many may wait."""
    ops = Ops()
    ops.op("work", max_waiting=most)(note)
    return ops


@pytest.fixture
def read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number is good for another submit."""
    monkeypatch.setattr(waiting_bound, "_FRESH", 0.0)
    monkeypatch.setattr(waiting_bound, "_TO_REFUSE", 0.0)


@pytest.fixture
async def manager(store_url: str) -> AsyncGenerator[TaskManager]:
    """One that submits only; three tasks of its op may wait."""
    async with TaskManager(store_url, ops=make_ops(3), work=False) as manager:
        yield manager


@pytest.mark.usefixtures("read_each_time")
async def test_a_submit_beyond_the_bound_is_refused(manager: TaskManager) -> None:
    """Until one has begun, or was cancelled; what is due later counts, and nothing was written."""
    handles = [await manager.submit("work", delay=delay) for delay in (None, 3_600, None)]
    with pytest.raises(
        OpFull, match=r"'work' is full: 3 of its tasks wait, and 3 may\."
    ) as refused:
        await manager.submit("work")
    listed = (await manager.store.list()).tasks
    await handles[1].cancel()
    again = await manager.submit("work")
    with pytest.raises(OpFull):
        await manager.submit("work")
    await manager.store.claim_due("me", ["work"], 1, 60)
    await manager.submit("work")
    other = await manager.submit("other")

    assert (refused.value.op, refused.value.waiting, refused.value.most) == ("work", 3, 3)
    assert len(listed) == 3
    assert again.created
    assert other.created


async def test_many_at_once_are_as_many_as_may(manager: TaskManager) -> None:
    """The answer says which were refused; without it the first refusal is raised, and the others
    are there all the same."""
    many = [Submission("work", params={"n": n}) for n in range(5)]
    made = await manager.submit_many(many, return_exceptions=True)
    with pytest.raises(OpFull):
        await manager.submit_many([Submission("other"), Submission("work")])
    ops = [task.op for task in (await manager.store.list()).tasks]

    assert [isinstance(one, OpFull) for one in made] == [False] * 3 + [True] * 2
    assert sorted(ops) == ["other", "work", "work", "work"]


async def test_many_callers_at_once_are_as_many_as_may(manager: TaskManager) -> None:
    """Each submit of this manager counts from its beginning: none slips through beside another."""
    made = await asyncio.gather(
        *(manager.submit("work") for _ in range(50)), return_exceptions=True
    )

    assert sum(isinstance(one, OpFull) for one in made) == 47
    assert len((await manager.store.list()).tasks) == 3


async def test_a_key_finds_its_task_also_where_it_is_full(manager: TaskManager) -> None:
    """It makes none; a key that is new is refused."""
    first = await manager.submit("work", idempotency_key="one")
    for _ in range(2):
        await manager.submit("work")
    again = await manager.submit("work", idempotency_key="one")
    with pytest.raises(OpFull):
        await manager.submit("work", idempotency_key="two")

    assert (again.task_id, again.created) == (first.task_id, False)


async def test_what_workers_take_makes_room_at_once(manager: TaskManager) -> None:
    """However many are submitted within a moment: by a guess of what waits none is refused."""
    for _ in range(20):
        made = await manager.submit("work")
        (claim,) = await manager.store.claim_due("me", ["work"], 1, 60)

        assert claim.task.task_id == made.task_id


async def test_submits_that_make_no_task_take_no_place(manager: TaskManager) -> None:
    """A key that is asked again and again leaves room for the others."""
    for _ in range(20):
        await manager.submit("work", idempotency_key="one")
    await manager.submit("work")
    await manager.submit("work")
    with pytest.raises(OpFull):
        await manager.submit("work")


@pytest.mark.usefixtures("read_each_time")
async def test_what_is_under_way_counts() -> None:
    """No reading has it yet, and it will wait as surely as what the reading has."""
    store, go, begun = MemoryStore(), asyncio.Event(), list[str]()
    create = store.create

    async def create_slowly(new_task: NewTask) -> tuple[Task, bool]:
        begun.append(new_task.op)
        await go.wait()
        return await create(new_task)

    async with store, TaskManager(store, ops=make_ops(3), work=False) as manager:
        store.create = create_slowly  # type: ignore[method-assign]  # a store that takes its time
        submits = [asyncio.ensure_future(manager.submit("work")) for _ in range(3)]
        assert await until(lambda: len(begun) == 3)
        with pytest.raises(OpFull):
            await asyncio.wait_for(manager.submit("work"), 10)
        go.set()
        made = await asyncio.gather(*submits)

    assert [one.created for one in made] == [True] * 3


async def test_a_key_leaves_the_numbers_as_they_are() -> None:
    """Asked again and again it has them read no more often, though but one more task may wait."""
    reads: list[float] = []
    store = MemoryStore()
    read = store.backlog.read

    async def note_and_read(*, max_age: float = 60.0) -> Backlog:
        reads.append(max_age)
        return await read(max_age=max_age)

    async with store, TaskManager(store, ops=make_ops(2), work=False) as manager:
        store.backlog.read = note_and_read  # type: ignore[method-assign]  # to be counted
        for _ in range(50):
            await manager.submit("work", idempotency_key="one")

    assert len([age for age in reads if age < 1]) <= 5


async def test_numbers_that_are_told_again_lack_what_was_submitted_since(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL keeps a reading for the other processes: what this one has submitted since it was
    made is added, however often it is told."""
    monkeypatch.setattr(waiting_bound, "_FRESH", 0.0)
    monkeypatch.setattr(waiting_bound, "_TO_REFUSE", 60.0)
    async with (
        find_store(postgres_url) as other,
        TaskManager(postgres_url, ops=make_ops(3), work=False) as manager,
    ):
        await other.backlog.read(max_age=0)
        made = [
            one
            for _ in range(10)
            for one in await asyncio.gather(manager.submit("work"), return_exceptions=True)
        ]

    assert [isinstance(one, OpFull) for one in made] == [False] * 3 + [True] * 7


@pytest.mark.parametrize("op", ["work", "elsewhere"])
async def test_many_that_wait_for_a_reading_have_one_answer(op: str) -> None:
    """Where the store is away each has its error after one patience, not after one of each before;
    and one that is cancelled meanwhile takes the reading from no other. So it is with the numbers,
    and with the list of the ops that are registered elsewhere."""
    store, reads, go = MemoryStore(), 0, asyncio.Event()

    async def read(**_: object) -> Any:
        nonlocal reads
        reads += 1
        await go.wait()
        raise StoreUnavailable("memory", "it is away")

    async with store, TaskManager(store, ops=make_ops(3), work=False) as manager:
        store.backlog.read = store.ops.read = read  # type: ignore[method-assign]  # a store that is away
        submits = [asyncio.ensure_future(manager.submit(op)) for _ in range(20)]
        assert await until(lambda: reads > 0)
        submits[0].cancel()
        await asyncio.wait(submits[:1])
        go.set()
        ended = await asyncio.gather(*submits, return_exceptions=True)

    assert [type(one) for one in ended] == [asyncio.CancelledError] + [StoreUnavailable] * 19
    assert reads < 5  # services of the manager read, too


async def test_a_reading_waits_for_no_lock(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a caller's transaction, which would wait for itself: SQLite has one writer. Nor is one
    refused where another session holds the file for long."""
    monkeypatch.setattr(sqlite_backend, "_PASSED", -1)
    monkeypatch.setattr(backlog_reader, "_FIRST", 600)
    folds: list[str] = []
    fold = SqliteBackend.fold_backlog

    async def note_and_fold(backend: SqliteBackend) -> None:
        folds.append("began")
        await fold(backend)
        folds.append("ended")

    monkeypatch.setattr(SqliteBackend, "fold_backlog", note_and_fold)
    async with (
        TaskManager(f"{sqlite_url}?patience=0.2", ops=make_ops(3), work=False) as manager,
        calling(sqlite_url) as caller,
    ):
        async with caller.transaction():
            await caller.execute("INSERT INTO orders VALUES (1)")
            made = await manager.submit("work", connection=caller.connection)
            by_submit = folds.copy()
            await manager.store.backlog.read()
            locked = folds.copy()
        backlog = await manager.store.backlog.read()

    assert made.created
    assert (by_submit, locked) == ([], ["began"])
    assert folds == ["began", "began", "ended"]
    assert [one.waiting for one in backlog.ops] == [1]


async def test_another_store_has_numbers_of_its_own() -> None:
    """A manager that is opened on another one keeps nothing of what it knew."""
    manager = TaskManager(MemoryStore(), ops=make_ops(1), work=False)
    for _ in range(3):
        manager.reconfigure(store=MemoryStore())
        async with manager.store, manager:
            await manager.submit("work")
            with pytest.raises(OpFull):
                await manager.submit("work")


@pytest.mark.usefixtures("read_each_time")
def test_another_event_loop_has_readings_of_its_own(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many at once wait for one reading, in each life: of the bound, and of the store's ops."""
    monkeypatch.setattr(known_ops, "_FRESH", 0.0)
    manager = TaskManager(sqlite_url, ops=make_ops(100), work=False)

    async def submit() -> None:
        async with manager:
            await asyncio.gather(*(manager.submit(op) for op in ["work", "elsewhere"] * 5))

    for _ in range(3):
        asyncio.run(submit())


@pytest.mark.usefixtures("read_each_time")
async def test_other_doors_are_bounded_too(store_url: str) -> None:
    """A caller's transaction, which stays as it was, and a task that is submitted again; not what
    a schedule makes, nor a task that was submitted before."""
    ops = make_ops(1)
    async with (
        TaskManager(store_url, ops=ops, work=False) as manager,
        calling(store_url) as caller,
    ):
        first = await manager.submit("work")
        async with caller.transaction():
            with pytest.raises(OpFull):
                await manager.submit("work", connection=caller.connection)
            other = await manager.submit("other", connection=caller.connection)
        (claim,) = await manager.store.claim_due("me", ["work"], 1, 60)
        await manager.submit("work")
        await manager.store.release(claim.attempt)
        await first.cancel()
        with pytest.raises(OpFull):
            await manager.resubmit(first.task_id)
        await manager.schedules.add("often", "work", every=3_600)
        made = await manager.schedules.trigger("often")
        ops_there = {task.op for task in (await manager.store.list()).tasks}

    assert other.created
    assert made.created
    assert ops_there == {"work", "other"}


async def test_who_has_not_registered_the_op_keeps_to_its_bound(store_url: str) -> None:
    """As a worker told the store; a worker that tells of none takes it away."""
    async with find_store(store_url) as store, TaskManager(store) as manager:
        await store.ops.register([KnownOp("work", max_waiting=2)])
        known = (await store.ops.read())["work"]
        for _ in range(2):
            await manager.submit("work", timeout=1, retries=0, priority=0, queue="mail")
        with pytest.raises(OpFull):
            await manager.submit("work", timeout=1, retries=0, priority=0, queue="mail")
        await store.ops.register([KnownOp("work")])
        unbound = (await store.ops.read())["work"]

    assert (known.max_waiting, unbound.max_waiting) == (2, None)


@pytest.mark.usefixtures("read_each_time")
async def test_what_others_submit_is_seen(store_url: str) -> None:
    """By the next reading."""
    ops = make_ops(2)
    async with (
        TaskManager(store_url, ops=ops, work=False) as one,
        TaskManager(store_url, ops=ops, work=False) as other,
    ):
        await one.submit("work")
        await other.submit("work")
        for manager in (one, other):
            with pytest.raises(OpFull):
                await manager.submit("work")


async def test_numbers_are_read_now_and_then() -> None:
    """Not for each submit, nor for each refusal; and never for an op without a bound."""
    reads = 0
    store = MemoryStore()

    async def read(fresh: int) -> Any:
        nonlocal reads
        reads += 1
        return await count(fresh)

    count, store.backend.read_backlog = store.backend.read_backlog, read  # type: ignore[method-assign]  # to be counted
    async with store, TaskManager(store, ops=make_ops(200), work=False, poll=600) as manager:
        reads = 0
        for _ in range(100):
            await manager.submit("other")
        unbound, reads = reads, 0
        made = await manager.submit_many([Submission("work")] * 300, return_exceptions=True)
        at_once, reads = reads, 0
        for _ in range(200):
            with pytest.raises(OpFull):
                await manager.submit("work")

    assert unbound == 0
    assert sum(isinstance(one, OpFull) for one in made) == 100
    assert at_once <= 3
    assert reads < 100  # a second would be 20 of them


async def test_refusals_are_counted() -> None:
    """By op, from zero on: a bound that was never met is seen, too."""
    kept = CapturedTelemetry()
    store = MemoryStore(telemetry=kept.telemetry)
    async with store, TaskManager(store, ops=make_ops(1), work=False) as manager:
        await manager.submit("work")
        before = kept.value("tapescope.task.refused", task_op="work")
        for _ in range(2):
            with pytest.raises(OpFull):
                await manager.submit("work")
        after = kept.value("tapescope.task.refused", task_op="work")
    kept.close()

    assert (before, after) == (0, 2)


def test_the_sync_door_is_bounded_too(sqlite_url: str) -> None:
    """One by one and in bulk."""
    with SyncManager(sqlite_url, ops=make_ops(1)) as manager:
        made = manager.submit_many([Submission("work")] * 2, return_exceptions=True)
        with pytest.raises(OpFull):
            manager.submit("work")
        with pytest.raises(OpFull):
            manager.submit_many([Submission("work")])

    assert [type(one).__name__ for one in made] == ["SyncHandle", "OpFull"]


@pytest.mark.parametrize("most", [0, -1, 1.5, "10", True])
def test_a_bound_is_a_number_over_0(most: Any) -> None:
    """Nothing else is taken; an op without one has none."""
    with pytest.raises(BadSetting, match="a whole number over 0"):
        make_ops(most)

    assert make_ops(None).all()["work"].max_waiting is None
    assert make_ops(7).all()["work"].max_waiting == 7
