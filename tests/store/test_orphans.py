"""Creates whose callers are gone: no task stays pending that nobody knows of."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tapescope.errors import EventFateUnknown
from tapescope.model.tape import FINAL, TASK_STARTED
from tapescope.model.tasks import NewTask, TaskStatus
from tapescope.store import TaskStore
from tapescope.store.flush import FateUnknown, Flush
from tapescope.store.validation import new_task_id
from tapescope.testing import History, check, settle_loop, until
from tests.support.memory_stores import FaultyStore, Gate, TwoLaneBackend, at_rest
from tests.support.postgres_sessions import RecordedPostgres, session
from tests.support.virtual_time import in_virtual_time


async def create(store: TaskStore, task_id: str) -> object:
    return await store.create(NewTask(task_id, "work"))


async def create_claimed(store: TaskStore, task_id: str) -> object:
    return await store.create_claimed(NewTask(task_id, "work"), "me", 30.0)


EITHER_WAY = pytest.mark.parametrize("make", [create, create_claimed])
Make = Callable[[TaskStore, str], Coroutine[object, object, object]]


@EITHER_WAY
@in_virtual_time
async def test_an_orphans_cancel_follows_its_create(make: Make) -> None:
    """With a free lane beside it the cancel waits all the same for the create that is in flight."""
    async with at_rest(FaultyStore(faults=TwoLaneBackend())) as store:
        gate = Gate()

        async def hold_creates(flush: Flush) -> None:
            if flush.creates:
                await gate(flush)

        store.faults.before = hold_creates
        ids = [new_task_id() for _ in range(130)]
        creates = [asyncio.ensure_future(make(store, id_)) for id_ in ids]
        await gate.reached.wait()
        await settle_loop()
        for create in creates:
            create.cancel()
        await asyncio.gather(*creates, return_exceptions=True)
        await settle_loop()
        gate.opened.set()
        await store.orphans_ended()
        left = {status: n for status, n in (await store.count()).items() if n}

        assert left
        assert set(left) == {TaskStatus.CANCELLED}


@in_virtual_time
async def test_a_close_waits_for_the_orphans() -> None:
    """A store that is closed leaves no task pending that nobody knows of."""
    async with at_rest(FaultyStore()) as store:
        gate = Gate()
        store.faults.before = gate
        create = asyncio.ensure_future(store.create(NewTask(new_task_id(), "work")))
        await gate.reached.wait()
        create.cancel()
        await asyncio.gather(create, return_exceptions=True)
        closing = asyncio.ensure_future(store.aclose())
        await settle_loop()
        gate.opened.set()
        await closing
        await store.open()

        assert (await store.count())[TaskStatus.CANCELLED] == 1


@EITHER_WAY
@in_virtual_time
async def test_a_caller_cancelled_with_the_commit_leaves_nothing(make: Make) -> None:
    """The cancel comes when the create is committed, and before its caller is told.

    An attempt that was begun with it is ended, too: nobody runs it.
    """
    async with at_rest(FaultyStore()) as store:
        task_id = new_task_id()
        creating = asyncio.ensure_future(make(store, task_id))

        async def cancel(flush: Flush) -> None:
            if flush.creates:
                creating.cancel()

        store.faults.after = cancel
        with pytest.raises(asyncio.CancelledError):
            await creating
        await store.orphans_ended()
        task, tape = await store.get(task_id), await store.read_tape(task_id)

        assert task.status is TaskStatus.CANCELLED
        begun = [TASK_STARTED] if make is create_claimed else []
        assert [event.type for event in tape.events] == [*begun, FINAL]


@pytest.mark.parametrize("kind", ["idempotency_key", "unique_key"])
@in_virtual_time
async def test_a_key_finds_what_a_cancelled_create_left(kind: str) -> None:
    """A task with a key stays: the same create again answers with it, and it may be the answer of
    another one already."""
    key: dict[str, Any] = {kind: "k"}
    async with at_rest(FaultyStore()) as store:
        gate = Gate()
        store.faults.before = gate
        first = new_task_id()
        create = asyncio.ensure_future(store.create(NewTask(first, "work", **key)))
        await gate.reached.wait()
        create.cancel()
        await asyncio.gather(create, return_exceptions=True)
        gate.opened.set()
        await store.orphans_ended()
        task, new = await store.create(NewTask(new_task_id(), "work", **key))

        assert (task.task_id, task.status, new) == (first, TaskStatus.PENDING, False)


@in_virtual_time
async def test_a_unique_key_keeps_nothing_that_nobody_runs() -> None:
    """A task for one owner alone is cancelled with its create, for no other runner is there: the
    key is free."""
    async with at_rest(FaultyStore()) as store:
        gate = Gate()
        store.faults.before = gate
        first = NewTask(new_task_id(), "work", unique_key="k", only_by="me")
        create = asyncio.ensure_future(store.create(first))
        await gate.reached.wait()
        create.cancel()
        await asyncio.gather(create, return_exceptions=True)
        gate.opened.set()
        await store.orphans_ended()
        task, new = await store.create(NewTask(new_task_id(), "work", unique_key="k"))

        assert (await store.get(first.task_id)).status is TaskStatus.CANCELLED
        assert (task.task_id != first.task_id, new) == (True, True)


@EITHER_WAY
@in_virtual_time
async def test_a_create_of_unknown_fate_is_cancelled_when_it_is_found(make: Make) -> None:
    """Who is told ``EventFateUnknown`` may submit again: the first task does not run as well."""
    async with at_rest(FaultyStore(patience=1.0)) as store:
        task_id = new_task_id()

        async def lose(flush: Flush) -> None:
            if flush.creates:
                raise FateUnknown("the reply was lost")

        store.faults.after = lose
        with pytest.raises(EventFateUnknown):
            await make(store, task_id)
        await store.orphans_ended()

        assert (await store.get(task_id)).status is TaskStatus.CANCELLED


async def test_creates_cancelled_behind_a_lock_leave_nothing_pending(postgres_url: str) -> None:
    """A hundred creates of one flush wait for a key that a session holds; cancelled, they end."""
    history = History()
    async with RecordedPostgres(postgres_url, history) as store, session(postgres_url) as raw:
        await store.create(NewTask(new_task_id(), "warm"))
        transaction = raw.transaction()
        await transaction.start()
        await store.create_within(raw, NewTask(new_task_id(), "keyed", idempotency_key="k"))
        new = [NewTask(new_task_id(), "work") for _ in range(100)]
        new.append(NewTask(new_task_id(), "keyed", idempotency_key="k"))
        creates = [asyncio.ensure_future(store.create(one)) for one in new]
        await until(lambda: store.waiting >= len(new))
        await settle_loop()
        for create in creates:
            create.cancel()
        answers = await asyncio.gather(*creates, return_exceptions=True)
        for _ in range(150):  # a cancel that does not wait for its create has its answer by then
            await store.count()
        await transaction.rollback()
        await store.orphans_ended()
        left = {status: n for status, n in (await store.count(op="work")).items() if n}
        violations = await check(history, store)

        assert violations == []
        assert Counter(map(type, answers)) == {asyncio.CancelledError: len(new)}
        assert set(left) == {TaskStatus.CANCELLED}  # some were in flight
